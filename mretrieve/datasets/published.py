"""Scores that others have published on the benchmarks, each with its source."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

ALIASES = {"e5-small": "intfloat/multilingual-e5-small"}
"""Our names of models -> the names that publications use."""


@dataclass(frozen=True, slots=True)
class System:
    """A published system.

    Attributes:
        id: its name in files.
        name: its name for people.
        retriever: `bm25`, `dense` or `hybrid`.
        source: where its scores are published.
        measures: measure -> language -> score, between 0 and 1.
        means: measure -> mean over all languages, where it cannot be had from `measures`.
        model: hub id of its encoder.
        note: what else to know.
    """

    id: str
    name: str
    retriever: str
    source: str
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    note: str = ""

    def score(self, measure: str, lang: str) -> float | None:
        """Its score in a language, if that is published."""
        return self.measures.get(measure, {}).get(lang)


def published(benchmark: str, split: str) -> tuple[System, ...]:
    """The systems with published scores on a split of a benchmark, none if there are no such."""
    return _all().get(f"{benchmark}/{split}", ())


def counterpart(
    benchmark: str, split: str, *, retriever: str, model: str = "", lang: str = ""
) -> tuple[System | None, bool]:
    """The published system to compare one of ours with.

    Args:
        benchmark: key of the catalogue.
        split: of the benchmark.
        retriever: `bm25`, `dense` or `hybrid`.
        model: name of the encoder, with `@` and a revision or without.
        lang: language that it must have scores of; empty for any.

    Returns:
        The system, and whether it is the same as ours: BM25, or the same encoder. Otherwise it is the first
        published one of the same kind; None where there is none.
    """
    systems = [
        one
        for one in published(benchmark, split)
        if one.retriever == retriever and any(not lang or lang in scores for scores in one.measures.values())
    ]
    name = model.partition("@")[0]
    wanted = ALIASES.get(name, name).lower()
    if retriever == "dense":
        for one in systems:
            if one.model and one.model.lower() == wanted:
                return one, True
    return (systems[0] if systems else None), retriever == "bm25" and bool(systems)


@cache
def _all() -> Mapping[str, tuple[System, ...]]:
    text = files(__package__).joinpath("published.yaml").read_text(encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
    return {key: tuple(System(**entry) for entry in entries) for key, entries in found.items()}
