"""How well a document answers a query: the numbers that tell false negatives from real ones."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.mine.pool import Pool
from mretrieve.rank.rerank import Reranker
from mretrieve.types import Document, Query

Scores = NDArray[np.float32]


class Scorer(Protocol):
    """Scores documents for queries; a higher score is a better answer."""

    @property
    def name(self) -> str:
        """Names the scorer and its version, for reports."""

    def score(self, queries: Sequence[Query], documents: Sequence[Sequence[Document]]) -> list[Scores]:
        """Score the documents of each query: one array (n,) float32 per query."""


class PoolScorer:
    """Cosines of the pool's own vectors: nothing but the queries is encoded."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @property
    def name(self) -> str:
        """The model that the index was built with."""
        return f"{self._pool.encoder.name} ({self._pool.encoder.fingerprint[:12]})"

    def score(self, queries: Sequence[Query], documents: Sequence[Sequence[Document]]) -> list[Scores]:
        """Score documents of the pool.

        Raises:
            InputError: a document is not in the pool.
        """
        if not queries:
            return []
        vectors = self._pool.encode(queries)
        scores = []
        for vector, some in zip(vectors, documents, strict=True):
            rows = self._pool.rows([document.doc_id for document in some])
            scores.append(self._pool.vectors.get(rows) @ vector if len(rows) else np.empty(0, np.float32))
        return scores


class CrossEncoderScorer:
    """Probabilities of a cross-encoder, which reads query and document together.

    Args:
        model: hub id or folder of a model with one output, as rerankers have it.
        device: `auto`, `cpu` or `cuda`.
        batch_size: pairs at once.

    Raises:
        InputError: there is no such model, or it does not score pairs.
    """

    def __init__(self, model: str, *, device: str = "auto", batch_size: int = 32) -> None:
        self._reranker = Reranker(model, device=device, batch_size=batch_size)
        if self._reranker.method != "cross-encoder":
            raise InputError(
                f"'{model}' is an embedding model, but a cross-encoder is needed: choose a reranker, such as "
                "BAAI/bge-reranker-v2-m3."
            )
        self._reranker.load()  # lest a damaged one is noticed when the searches are done

    @property
    def name(self) -> str:
        """The model's name as it was asked for."""
        return self._reranker.name

    def score(self, queries: Sequence[Query], documents: Sequence[Sequence[Document]]) -> list[Scores]:
        """Score any documents; each score is between 0 and 1."""
        pairs = [
            (query.text, document.contents)
            for query, some in zip(queries, documents, strict=True)
            for document in some
        ]
        scores = self._reranker.score_pairs(pairs)
        return np.split(scores, np.cumsum([len(some) for some in documents])[:-1])
