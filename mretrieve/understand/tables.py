"""Routing reports as Markdown."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mretrieve.understand.routing import RoutingReport

_METHOD = """\
*Load* is the share of an expert in all slots that the texts' tokens use; special tokens and the prompt are
counted apart. *Entropy* is that of the load, as a part of even use (1.00). *Divergence* is the mean over
sentences of the Jensen-Shannon divergence between a sentence's router probabilities, averaged over its
tokens, and those of the English sentence, divided by the greatest that their entropies allow (Bandarkar et
al., 2025, arXiv:2510.04694). *Distance* in the tree is the Jensen-Shannon distance of the languages' mean
probabilities, averaged over layers, clustered by average linkage (after Srivastava et al., 2024,
arXiv:2409.11272).
"""


def routing_markdown(report: "RoutingReport") -> str:
    """The whole report as one Markdown document, with links to the plots beside it."""
    layers = [f"layer {layer}" for layer in report.layers]
    parts = [
        f"# Routing of {report.model}",
        f"{report.n_rows} parallel texts in {len(report.languages)} languages from {report.data}; "
        f"{report.n_experts} experts in each of {len(report.layers)} layers, {report.top_k} per token.",
        _METHOD.rstrip(),
        "## Divergence from English",
        _table(["language", "tokens", *layers], _by_language(report, report.divergence)),
        "![Divergence from English by layer](divergence.png)",
        "## Entropy of load",
        _table(["language", "tokens", *layers], _by_language(report, report.entropy_relative)),
        "## Languages by distance of routing",
        "![Tree of languages](tree.png)",
        f"```\n{report.newick}\n```",
        "## Load",
        "![Load of experts](load.png)",
        *_load_tables(report),
    ]
    return "\n\n".join(parts) + "\n"


def _by_language(report: "RoutingReport", values: NDArray[np.float64]) -> Iterable[list[str]]:
    """Rows of (n_layers, n_languages) values, and the mean of the languages that are not English."""
    for i, language in enumerate(report.languages):
        yield [language, f"{report.n_tokens[i]:,}", *(f"{value:.3f}" for value in values[:, i])]
    others = [i for i, language in enumerate(report.languages) if language != "en"]
    yield ["*mean without en*", "", *(f"{value:.3f}" for value in values[:, others].mean(axis=1))]


def _load_tables(report: "RoutingReport") -> Iterable[str]:
    header = ["language", *(f"expert {number}" for number in range(report.n_experts))]
    for place, layer in enumerate(report.layers):
        rows = [
            [language, *(f"{share:.1%}" for share in report.load[place, i])]
            for i, language in enumerate(report.languages)
        ]
        rows.append(["*special tokens*", *(f"{share:.1%}" for share in report.special_load[place])])
        yield f"### Layer {layer}"
        yield _table(header, rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
