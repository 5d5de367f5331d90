"""The small records that every room shares."""

from dataclasses import asdict, dataclass
from typing import Literal

Qrels = dict[str, dict[str, int]]
"""query_id -> doc_id -> relevance grade."""

Run = dict[str, dict[str, float]]
"""query_id -> doc_id -> score, higher is better."""


Mode = Literal["hybrid", "dense", "bm25"]
"""Which legs answer a query: vectors, words, or both."""


@dataclass(frozen=True, slots=True)
class Document:
    """One passage of a collection.

    `lang` is an ISO 639-1 code (639-3 where there is none), empty when unknown.
    `place` says where the record was read, for error messages: `corpus.jsonl:17`.
    """

    doc_id: str
    text: str
    title: str = ""
    lang: str = ""
    place: str = ""

    @property
    def contents(self) -> str:
        """Title and text as one string, the form that is encoded and indexed."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Query:
    """One topic. `lang` is an ISO 639-1 code, empty when unknown."""

    query_id: str
    text: str
    lang: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """One ranked document, with the scores and ranks (from 1) of the legs it came from."""

    doc_id: str
    score: float
    rank: int
    title: str
    text: str
    lang: str
    dense_score: float | None = None
    dense_rank: int | None = None
    bm25_score: float | None = None
    bm25_rank: int | None = None

    def to_dict(self) -> dict[str, object]:
        """The fields as a plain dictionary, for JSON."""
        return asdict(self)
