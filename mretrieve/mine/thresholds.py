"""How near to the positive's score a document may come before it is taken for an answer."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mretrieve.errors import InputError
from mretrieve.mine.pool import Pool
from mretrieve.types import Query

Offsets = Mapping[tuple[str, str], float]
"""(language of the query, language of the document) -> mean score of pairs that have nothing in common."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Positive-aware limits of NV-Retriever (Moreira et al., 2024, arXiv:2407.15831).

    A limit that holds for all queries either lets false negatives of easy ones pass or drops the hard
    negatives of difficult ones; so it hangs on the score of the query's own positive. Where both are given,
    the stricter counts.

    Attributes:
        max_ratio: a negative scores at most this share of the positive's (TopK-PercPos); None: no limit.
        margin: a negative scores at least so much less than the positive (TopK-MarginPos); None: no limit.
        offsets: scores of unrelated pairs by languages. Models score documents in the query's language
            higher, whatever these say; with offsets, documents are compared as if they were all in the
            positive's language. Without them a positive in another language bars its query from nearly
            all documents in its own.
    """

    max_ratio: float | None = 0.95
    margin: float | None = None
    offsets: Offsets = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: one is out of range.
        """
        if self.max_ratio is not None and not 0 < self.max_ratio <= 1:
            raise InputError(
                f"max_ratio is {self.max_ratio:g}, but it is a share of the positive's score above 0 and up "
                "to 1, such as 0.95."
            )
        if self.margin is not None and not 0 <= self.margin < math.inf:
            raise InputError(f"margin is {self.margin:g}, but it is a difference of scores from 0, as 0.05.")

    def limit(self, score: float, query_lang: str, positive_lang: str, lang: str) -> float:
        """The score up to which a document is a negative.

        Args:
            score: of the positive.
            query_lang: language of the query.
            positive_lang: language of the positive.
            lang: language of the document in question.
        """
        limit = math.inf
        if self.max_ratio is not None:
            # Below 0 a share would be nearer to 0, and so above the positive's score.
            limit = score - (1 - self.max_ratio) * abs(score)
        if self.margin is not None:
            limit = min(limit, score - self.margin)
        here, there = self.offsets.get((query_lang, lang)), self.offsets.get((query_lang, positive_lang))
        return limit if here is None or there is None else limit + here - there


def language_offsets(
    pool: Pool, queries: Sequence[Query], *, per_language: int = 64, seed: int = 13
) -> dict[tuple[str, str], float]:
    """Measure what unrelated texts score, by the languages of query and document.

    Args:
        pool: documents and the model.
        queries: questions to sample from.
        per_language: queries, and documents, of each language that are compared with each other.
        seed: of the sample.

    Returns:
        (query's language, document's language) -> mean cosine. With some dozens of each, the few pairs
        that do belong together change nothing.
    """
    rng = np.random.default_rng(seed)
    by_language: dict[str, list[Query]] = {}
    for query in pool.with_languages(queries):
        by_language.setdefault(query.lang, []).append(query)
    documents = {}
    for lang in pool.languages:
        rows = pool.index.rows_of(lang)
        documents[lang] = pool.vectors.get(np.sort(rng.permutation(rows)[:per_language])).mean(axis=0)
    offsets: dict[tuple[str, str], float] = {}
    for query_lang, some in sorted(by_language.items()):
        chosen = sorted(some, key=lambda query: _lot(query.query_id, seed))[:per_language]
        mean = pool.encode(chosen).mean(axis=0)  # the mean of all products is the product of the means
        offsets |= {(query_lang, lang): float(mean @ other) for lang, other in documents.items()}
    return offsets


def _lot(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
