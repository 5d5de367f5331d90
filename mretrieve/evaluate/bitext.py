"""How often a sentence finds its translation among all sentences: accuracy as with Tatoeba, and xsim.

Accuracy goes by cosine (Artetxe & Schwenk, 2019, arXiv:1812.10464). xsim, an error rate, goes by margin: the
cosine over the mean cosine of both sentences to their nearest neighbours, which keeps sentences that are
near to everything from being found by everyone (Artetxe & Schwenk, 2019, arXiv:1811.01136; LASER's xsim).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError

NEIGHBOURS = 4
"""Nearest neighbours that the margin is taken over, as in LASER."""

_BLOCK_SCORES = 1 << 23  # cosines held at a time: 32 MB

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bitext:
    """How well the sentences of two languages find each other.

    Attributes:
        sentences: pairs.
        forward: accuracy from the first language into the second.
        backward: accuracy from the second into the first.
        xsim_forward: error rate by margin from the first into the second.
        xsim_backward: error rate by margin from the second into the first.
    """

    sentences: int
    forward: float
    backward: float
    xsim_forward: float
    xsim_backward: float

    @property
    def accuracy(self) -> float:
        """Mean of both ways."""
        return (self.forward + self.backward) / 2

    @property
    def xsim(self) -> float:
        """Mean error of both ways."""
        return (self.xsim_forward + self.xsim_backward) / 2

    def to_dict(self) -> dict[str, object]:
        """All figures as a plain dictionary, for JSON."""
        return asdict(self) | {"accuracy": self.accuracy, "xsim": self.xsim}


def bitext_retrieval(
    first: Vectors, second: Vectors, *, texts: tuple[Sequence[str], Sequence[str]] | None = None
) -> Bitext:
    """Measure how well the sentences of two languages find each other.

    Args:
        first: (n, dim) float32 unit vectors of sentences.
        second: (n, dim) float32 unit vectors of their translations.
        texts: the sentences of both sides; one that stands in several rows is right in each of them.

    Returns:
        The figures.

    Raises:
        InputError: there are fewer than two pairs, or the sides differ in shape.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(f"Both sides should have one shape, but they are {first.shape} and {second.shape}.")
    n_pairs = len(first)
    if n_pairs < 2:
        raise InputError("At least two pairs of sentences are needed, for one is always found.")
    one, other = (_numbers(side, n_pairs) for side in (texts or (None, None)))
    n_near = min(NEIGHBOURS, n_pairs)
    there, back = _neighbours(first, second, n_near), _neighbours(second, first, n_near)
    return Bitext(
        sentences=n_pairs,
        forward=_share_right(there.rows[:, 0], other),
        backward=_share_right(back.rows[:, 0], one),
        xsim_forward=1 - _share_right(_by_margin(there, back), other),
        xsim_backward=1 - _share_right(_by_margin(back, there), one),
    )


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """Nearest sentences of the other side, best first: both (n, n_near)."""

    rows: NDArray[np.int64]
    cosines: Vectors


def _neighbours(asked: Vectors, searched: Vectors, n_near: int) -> _Neighbours:
    rows = np.empty((len(asked), n_near), np.int64)
    cosines = np.empty((len(asked), n_near), np.float32)
    size = max(1, _BLOCK_SCORES // len(searched))
    for start in range(0, len(asked), size):
        part = slice(start, min(start + size, len(asked)))
        scores = asked[part] @ searched.T
        near = np.argpartition(-scores, n_near - 1, axis=1)[:, :n_near]
        found = np.take_along_axis(scores, near, axis=1)
        # Equal cosines: the earlier row first, so that the result does not hang on the partition.
        order = np.lexsort((near, -found), axis=1)
        rows[part] = np.take_along_axis(near, order, axis=1)
        cosines[part] = np.take_along_axis(found, order, axis=1)
    return _Neighbours(rows, cosines)


def _by_margin(there: _Neighbours, back: _Neighbours) -> NDArray[np.int64]:
    """Of the nearest neighbours of each sentence the one with the best margin, (n,)."""
    around_asked = there.cosines.mean(axis=1)[:, None]
    around_found = back.cosines.mean(axis=1)[there.rows]
    margins = there.cosines / ((around_asked + around_found) / 2)
    best = margins.argmax(axis=1)[:, None]
    return np.asarray(np.take_along_axis(there.rows, best, axis=1)[:, 0], np.int64)


def _share_right(found: NDArray[np.int64], numbers: NDArray[np.int64]) -> float:
    return float((numbers[found] == numbers).mean())


def _numbers(texts: Sequence[str] | None, n_pairs: int) -> NDArray[np.int64]:
    """(n,) a number for each different text; by default all are different."""
    if texts is None:
        return np.arange(n_pairs)
    if len(texts) != n_pairs:
        raise InputError(f"There are {len(texts):,} texts for {n_pairs:,} vectors.")
    known: dict[str, int] = {}
    return np.array([known.setdefault(text, len(known)) for text in texts], np.int64)
