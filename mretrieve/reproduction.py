"""What a reproduction came to: scores beside published ones, and what the differences mean."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mretrieve.recipe import Recipe
from mretrieve.types import Mode

EXACT = 0.0005
"""Difference up to which a score counts as reproduced: half of the last digit that papers give."""

CLOSE = 0.01
"""Difference up to which it counts as close."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a collection is ranked.

    Attributes:
        retriever: `bm25`, `dense` or `hybrid`.
        model: encoder of the last two.
        device: `auto`, `cpu` or `cuda`.
        dtype: number type of the model.
        fusion: how hybrid joins its legs; empty for the default.
        recipe: how the index is built; by default exactly, with the terms of BM25 that Anserini has.
        name: of the recipe.
    """

    retriever: Mode = "bm25"
    model: str = "e5-small"
    device: str = "auto"
    dtype: str = "auto"
    fusion: str = ""
    recipe: Recipe | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """What tells its files from others."""
        if self.recipe is None and self.retriever == "bm25":
            return "bm25"
        return f"{self.retriever}.{self.index}" + (f".{self.fusion.replace(':', '-')}" if self.fusion else "")

    @property
    def index(self) -> str:
        """What tells its index from others: BM25 alone has its own, a model one for both retrievers."""
        if self.recipe is not None:
            return f"recipe-{self.name}"
        return "bm25" if self.retriever == "bm25" else Path(self.model).name.replace("@", "-")


@dataclass(frozen=True, slots=True)
class Score:
    """One measure beside what is published of it, and what a recipe expects give or take a tolerance."""

    measure: str
    measured: float
    published: float | None
    verdict: str
    expected: float | None = None
    tolerance: float = 0.0

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        return None if self.published is None else self.measured - self.published

    @property
    def as_expected(self) -> bool | None:
        """Whether it is what the recipe says; None where that says nothing."""
        return None if self.expected is None else abs(self.measured - self.expected) <= self.tolerance


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came of one collection and one retriever.

    Attributes:
        address: of the collection, without its split.
        split: whose topics were ranked.
        retriever: `bm25`, `dense` or `hybrid`.
        model: the encoder; empty for BM25.
        topics: how many were judged.
        passages: documents of the collection that was ranked.
        official_passages: those of the published collection; None where that is not known.
        compared_with: the published system; empty if there is none.
        source: where its scores are published.
        scores: the measures of the benchmark.
        run: file of the ranking.
    """

    address: str
    split: str
    retriever: str
    model: str
    topics: int
    passages: int
    official_passages: int | None
    compared_with: str
    source: str
    scores: tuple[Score, ...]
    run: str

    @property
    def complete(self) -> bool:
        """Whether the collection has the size of the published one, so that scores may be compared."""
        return self.official_passages in (None, self.passages)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, with the differences, for JSON."""
        values = asdict(self)
        for score, value in zip(self.scores, values["scores"], strict=True):
            value["difference"] = score.difference
            value["as_expected"] = score.as_expected
        return {**values, "complete": self.complete}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Reproduction":
        """From what `to_dict` gives."""
        values = {name: values[name] for name in cls.__dataclass_fields__}
        names = Score.__dataclass_fields__
        scores = tuple(Score(**{name: one[name] for name in names}) for one in values["scores"])
        return cls(**{**values, "scores": scores})


@dataclass(frozen=True, slots=True)
class Reproductions:
    """Results, and what was left out and why: address -> reason."""

    results: tuple[Reproduction, ...]
    skipped: dict[str, str]


def verdict(measured: float, published: float | None, *, same: bool, complete: bool) -> str:
    """What a difference means, in one or two words.

    Args:
        measured: our score.
        published: the other; None where there is none.
        same: whether both are scores of the same system.
        complete: whether the collection has its published size.
    """
    if published is None:
        return "nothing published"
    if not complete:
        return "not comparable"
    difference = measured - published
    if abs(difference) <= EXACT:
        return "reproduced" if same else "equal"
    if same:
        return "close" if abs(difference) <= CLOSE else "differs"
    return "better" if difference > 0 else "worse"
