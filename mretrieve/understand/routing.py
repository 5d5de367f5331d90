"""A report on how a sparse encoder routes languages: load, entropy, divergence from English, a tree."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.files import new_folder
from mretrieve.understand.divergence import (
    distances,
    entropy,
    language_tree,
    newick,
    routing_divergence,
)
from mretrieve.understand.extras import optional
from mretrieve.understand.folder import FORMAT, REPORT, check_report_folder
from mretrieve.understand.parallel import ParallelText, read_parallel
from mretrieve.understand.plots import plot_divergence, plot_load, plot_tree
from mretrieve.understand.running import TextModel
from mretrieve.understand.statistics import RoutingStatistics, routing_statistics
from mretrieve.understand.tables import routing_markdown

Progress = Callable[[str, int, int | None], None]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class RoutingReport:
    """How each layer with experts treats each language.

    Tokens are those of the texts; special tokens and the prompt are counted apart, in `special_load`.

    Attributes:
        model: its name as given.
        data: file of the parallel text.
        n_rows: texts per language.
        languages: labels, English among them.
        n_tokens: tokens per language.
        layers: numbers of the layers that have experts.
        top_k: experts per token.
        load: (n_layers, n_languages, n_experts), share of an expert in all used slots, sums to 1.
        special_load: (n_layers, n_experts), the same of special tokens and prompts of all languages.
        entropy_bits: (n_layers, n_languages), entropy of the load; log2 of n_experts is even use.
        token_entropy_bits: (n_layers, n_languages), mean entropy of the router's probabilities of a token.
        divergence_bits: (n_layers, n_languages), mean Jensen-Shannon divergence from the English sentence.
        divergence: the same, normalised by entropy (see `normalized_js_divergence`).
        distances: (n_languages, n_languages), see `distances`.
        tree: (n_languages - 1, 4), as scipy's `linkage`.
    """

    model: str
    data: str
    n_rows: int
    languages: tuple[str, ...]
    n_tokens: tuple[int, ...]
    layers: tuple[int, ...]
    top_k: int
    load: Array
    special_load: Array
    entropy_bits: Array
    token_entropy_bits: Array
    divergence_bits: Array
    divergence: Array
    distances: Array
    tree: Array

    @property
    def n_experts(self) -> int:
        """Experts in each layer."""
        return int(self.load.shape[2])

    @property
    def entropy_relative(self) -> Array:
        """The entropy of the load as a part of that of even use, 1.0 where there is one expert alone."""
        even = np.log2(self.n_experts)
        return self.entropy_bits / even if even else np.ones_like(self.entropy_bits)

    @property
    def newick(self) -> str:
        """The tree of languages in Newick's notation."""
        return newick(self.tree, self.languages)

    def to_dict(self) -> dict[str, Any]:
        """What `routing.json` holds; figures by language, each a list over layers."""
        by_language = {
            language: {
                "tokens": self.n_tokens[i],
                "load": _rounded(self.load[:, i]),
                "entropy_bits": _rounded(self.entropy_bits[:, i]),
                "entropy_relative": _rounded(self.entropy_relative[:, i]),
                "token_entropy_bits": _rounded(self.token_entropy_bits[:, i]),
                "divergence_from_english_bits": _rounded(self.divergence_bits[:, i]),
                "divergence_from_english": _rounded(self.divergence[:, i]),
            }
            for i, language in enumerate(self.languages)
        }
        return {
            "format": FORMAT,
            "model": self.model,
            "data": self.data,
            "rows": self.n_rows,
            "layers": list(self.layers),
            "n_experts": self.n_experts,
            "top_k": self.top_k,
            "languages": by_language,
            "special_load": _rounded(self.special_load),
            "tree": {
                "newick": self.newick,
                "languages": list(self.languages),
                "distances": _rounded(self.distances),
            },
        }


def routing_report(
    model: Path | str,
    data: Path,
    out: Path,
    *,
    langs: Sequence[str] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> RoutingReport:
    """Route parallel text and write what came of it: `routing.json`, tables in `README.md`, plots.

    Args:
        model: folder of a NomicMoE in our layout or the official one, or its hub id.
        data: parallel text with English in it, see `read_parallel`.
        out: folder to make; an earlier report is replaced, anything else left alone.
        langs: languages by code; all that `data` has without them. English is always there.
        limit: rows of `data` to use at most.
        device: `auto`, `cpu` or `cuda`.
        on_progress: called with what is done, texts routed, and texts in all.

    Returns:
        What was written.

    Raises:
        InputError: the model has no experts, or an argument cannot be used.
        MissingDependencyError: matplotlib or scipy is not installed.
    """
    for module in ("matplotlib", "scipy"):
        optional(module)
    check_report_folder(out)
    text = read_parallel(data, langs=langs, limit=limit)
    if len(text.languages) < 2:
        raise InputError(f"A report compares languages: {data} must give one beside English.")
    runner = TextModel(model, device=device)
    if not runner.model.sizes.moe_layers:
        raise InputError(
            f"{model} has no layers of experts, so nothing is routed in it. Give a NomicMoE, or make one "
            "with `mretrieve upcycle`."
        )
    report = _report(str(model), runner, text, _route(runner, text, on_progress))
    with new_folder(out, check=check_report_folder) as folder:
        write_report(report, folder)
    return report


def write_report(report: RoutingReport, folder: Path) -> None:
    """Write a report's files into an existing folder."""
    content = json.dumps(report.to_dict(), ensure_ascii=False, indent=1) + "\n"
    (folder / REPORT).write_text(content, encoding="utf-8")
    (folder / "README.md").write_text(routing_markdown(report), encoding="utf-8")
    languages, layers = report.languages, report.layers
    plot_load(folder / "load.png", report.load, languages=languages, layers=layers)
    plot_divergence(folder / "divergence.png", report.divergence, languages=languages, layers=layers)
    plot_tree(folder / "tree.png", report.tree, languages=languages)


def _route(
    runner: TextModel, text: ParallelText, on_progress: Progress | None
) -> dict[str, RoutingStatistics]:
    done, total = 0, text.n_rows * len(text.languages)

    def on_texts(n: int) -> None:
        nonlocal done
        done += n
        if on_progress is not None:
            on_progress("routing", done, total)

    return {
        language: routing_statistics(runner, texts, lang=text.codes[language], on_texts=on_texts)
        for language, texts in text.texts.items()
    }


def _report(
    name: str, runner: TextModel, text: ParallelText, found: dict[str, RoutingStatistics]
) -> RoutingReport:
    sizes = runner.model.sizes
    if empty := [language for language, one in found.items() if not one.n_tokens]:
        raise InputError(f"{text.path}: no text in '{empty[0]}' has any tokens.")
    slots = np.stack([one.slots for one in found.values()], axis=1)  # (n_layers, n_languages, n_experts)
    load = slots / slots.sum(axis=2, keepdims=True)
    special = np.sum([one.special_slots for one in found.values()], axis=0)
    english = found["en"].means
    apart = [routing_divergence(one.means, english) for one in found.values()]
    matrix = distances(np.stack([np.nanmean(one.means, axis=0) for one in found.values()]))
    return RoutingReport(
        model=name,
        data=str(text.path),
        n_rows=text.n_rows,
        languages=tuple(found),
        n_tokens=tuple(one.n_tokens for one in found.values()),
        layers=sizes.moe_layers,
        top_k=sizes.moe_top_k,
        load=load,
        special_load=special / np.maximum(np.sum(special, axis=1, keepdims=True), 1),
        entropy_bits=entropy(load),
        token_entropy_bits=np.stack([one.entropies / one.n_tokens for one in found.values()], axis=1),
        divergence_bits=np.stack([bits for bits, _ in apart], axis=1),
        divergence=np.stack([normalized for _, normalized in apart], axis=1),
        distances=matrix,
        tree=language_tree(matrix),
    )


def _rounded(values: Array) -> Any:
    """As nested lists, to 6 digits after the point."""
    return np.round(values, 6).tolist()
