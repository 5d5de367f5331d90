"""What mining hands from step to step: a query, its positive, and the documents that may be its negatives."""

import math
from dataclasses import dataclass
from typing import Literal

from mretrieve.types import Document, Query

Reason = Literal[
    "judged relevant",
    "relevant to the same question",
    "relevant to the same answer",
    "holds the answer",
    "parallel to a positive",
    "nearly equal to a positive",
    "repeats another candidate",
    "scored too near the positive",
    "left out",
]
"""Why a candidate may not become a negative."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document, and what speaks for it as an answer to a query.

    Attributes:
        document: the document; `contents` is what models see of it.
        source: the search that found it: `dense`, `bm25`, both with a plus, or `dense@de` for the search
            among the German documents; empty for a positive that no search found.
        rank: its place in that search, from 1; 0 if none found it.
        score: how well it answers the query in the eyes of the scorer; nan as long as nobody looked.
        judged: whether somebody judged it as not relevant.
    """

    document: Document
    source: str = ""
    rank: int = 0
    score: float = math.nan
    judged: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """A candidate that may be an answer after all."""

    candidate: Candidate
    reason: Reason


@dataclass(frozen=True, slots=True)
class Candidates:
    """The documents found for a query; one such record for each of its positives once these are known."""

    query: Query
    found: tuple[Candidate, ...]
    positive: Candidate | None = None
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True, slots=True)
class Triple:
    """A query, a document that answers it, and documents that do not although they look like it."""

    query: Query
    positive: Candidate
    negatives: tuple[Candidate, ...]
