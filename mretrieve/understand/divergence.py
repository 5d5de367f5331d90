"""How far routings lie apart: Jensen-Shannon divergences, and a tree of languages by them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.understand.extras import optional

Floats = NDArray[np.floating[Any]]
_QUOTED = set(" ()[]:;,'")


def entropy(p: Floats) -> NDArray[np.float64]:
    """Entropy in bits along the last axis, which sums to 1; 0 log 0 is 0."""
    p = np.asarray(p, np.float64)
    logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
    bits: NDArray[np.float64] = -(p * logs).sum(axis=-1)
    return bits


def js_divergence(p: Floats, q: Floats) -> NDArray[np.float64]:
    """Jensen-Shannon divergence in bits along the last axis: 0 for equal distributions, 1 for disjoint."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    bits = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    clipped: NDArray[np.float64] = np.clip(bits, 0.0, 1.0)  # rounding can pass the ends by 1e-16
    return clipped


def normalized_js_divergence(p: Floats, q: Floats) -> NDArray[np.float64]:
    """Jensen-Shannon divergence as a part of the greatest that the two entropies allow, 0 to 1.

    Bandarkar et al., 2025 (arXiv:2510.04694), appendix A.4: divided by log E minus the mean of the two
    entropies. Layers whose routers are less decided have smaller divergences for that reason alone; this
    makes layers comparable.

    Args:
        p: (..., n_experts), sums to 1.
        q: as `p`.
    """
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    room = np.log2(p.shape[-1]) - (entropy(p) + entropy(q)) / 2
    open_ = room > 1e-9  # else both are uniform, and therefore equal
    divided = np.divide(js_divergence(p, q), room, out=np.zeros_like(room), where=open_)
    clipped: NDArray[np.float64] = np.clip(divided, 0.0, 1.0)
    return clipped


def routing_divergence(means: Floats, english: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean divergence of parallel sentences from English, per layer.

    Bandarkar et al., 2025: q is a sentence's router probabilities, averaged over its tokens (eq. 1); the
    divergence of a language in a layer is the mean over sentences of that between q and the q of the English
    sentence of the same meaning (eq. 2).

    Args:
        means: (n_sentences, n_layers, n_experts), q in one language; NaN where a sentence has no tokens.
        english: the same in English.

    Returns:
        (n_layers,) in bits, and (n_layers,) normalised as in the paper.
    """
    whole = ~(np.isnan(means).any(axis=(1, 2)) | np.isnan(english).any(axis=(1, 2)))
    p, q = means[whole], english[whole]
    return js_divergence(p, q).mean(axis=0), normalized_js_divergence(p, q).mean(axis=0)


def distances(profiles: Floats) -> NDArray[np.float64]:
    """Distances between languages: the Jensen-Shannon distance (root of bits), averaged over layers.

    Args:
        profiles: (n_languages, n_layers, n_experts), mean router probabilities of each language.

    Returns:
        (n_languages, n_languages), symmetric, 0 on the diagonal.
    """
    profiles = np.asarray(profiles, np.float64)
    rows = [np.sqrt(js_divergence(one[None], profiles)).mean(axis=1) for one in profiles]
    matrix: NDArray[np.float64] = np.stack(rows)
    np.fill_diagonal(matrix, 0.0)
    return (matrix + matrix.T) / 2


def language_tree(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average-linkage clustering of languages, after LOLA (Srivastava et al., 2024, arXiv:2409.11272).

    Args:
        matrix: (n, n) distances, n at least 2.

    Returns:
        (n - 1, 4) as scipy's `linkage` has it: two clusters, their distance, and the size of the new one.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    hierarchy = optional("scipy.cluster.hierarchy")
    upper = matrix[np.triu_indices(len(matrix), 1)]
    tree: NDArray[np.float64] = hierarchy.linkage(upper, method="average", optimal_ordering=True)
    return tree


def newick(tree: NDArray[np.float64], labels: Sequence[str]) -> str:
    """A tree in Newick's notation; a leaf lies half the distance of its cluster below it."""
    nodes = [(_quoted(label), 0.0) for label in labels]  # text, height
    for left, right, distance, _ in tree:
        height = float(distance) / 2
        parts = [nodes[int(side)] for side in (left, right)]
        branches = ",".join(f"{text}:{height - below:.6g}" for text, below in parts)
        nodes.append((f"({branches})", height))
    return nodes[-1][0] + ";"


def _quoted(label: str) -> str:
    if not _QUOTED & set(label):
        return label
    return "'" + label.replace("'", "''") + "'"
