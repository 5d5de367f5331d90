"""Exact rankings of all documents by vectors, and what the benchmark reads off them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mretrieve.types import Run

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]

_BLOCK_SCORES = 1 << 23  # scores held at a time: 32 MB


def best_run(
    query_ids: Sequence[str], queries: Vectors, doc_ids: Sequence[str], documents: Vectors, *, top_k: int
) -> Run:
    """The `top_k` documents of each query by inner product, exactly.

    Args:
        query_ids: (n_queries,).
        queries: (n_queries, dim) float32.
        doc_ids: (n_documents,).
        documents: (n_documents, dim) float32.
        top_k: documents per query.
    """
    import faiss

    scores, rows = faiss.knn(
        queries, documents, min(top_k, len(documents)), metric=faiss.METRIC_INNER_PRODUCT
    )
    return {
        query_id: {doc_ids[row]: float(score) for row, score in zip(one, other, strict=True)}
        for query_id, one, other in zip(query_ids, rows.tolist(), scores.tolist(), strict=True)
    }


def full_ranking(
    queries: Vectors, doc_ids: Sequence[str], documents: Vectors, relevant: Sequence[Mapping[str, int]]
) -> tuple[Floats, list[str]]:
    """Average precision over the ranking of all documents, and the first document, of each query.

    Equal scores are ordered as trec_eval orders them, by descending doc_id.

    Args:
        queries: (n_queries, dim) float32.
        doc_ids: (n_documents,), all different.
        documents: (n_documents, dim) float32.
        relevant: (n_queries,) doc_id -> grade; those of grade 1 and more are relevant.

    Returns:
        (n_queries,) float64, and (n_queries,) doc_ids.
    """
    order = sorted(range(len(doc_ids)), key=doc_ids.__getitem__, reverse=True)
    documents = np.ascontiguousarray(documents[order])
    place = {doc_ids[row]: number for number, row in enumerate(order)}
    precision = np.zeros(len(queries))
    first: list[str] = []
    size = max(1, _BLOCK_SCORES // len(doc_ids))
    for start in range(0, len(queries), size):
        scores = queries[start : start + size] @ documents.T
        first += [doc_ids[order[row]] for row in scores.argmax(axis=1).tolist()]  # of equals the first
        for number, row in enumerate(scores, start):
            judged = relevant[number].items()
            wanted = np.array([place[doc_id] for doc_id, grade in judged if grade > 0], np.int64)
            precision[number] = average_precision(_ranks(row, wanted))
    return precision, first


def _ranks(scores: Vectors, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks, from 1, of some documents among (n_documents,) scores; of equals the earlier is first."""
    own = scores[wanted][:, None]
    ranks: NDArray[np.int64] = (scores > own).sum(axis=1) + 1
    for number, one in enumerate(wanted.tolist()):
        ranks[number] += int((scores[:one] == own[number]).sum())
    return ranks


def average_precision(ranks: NDArray[np.int64]) -> float:
    """Mean precision at the ranks, from 1, of all relevant documents; 0 where there are none."""
    if not len(ranks):
        return 0.0
    return float((np.arange(1, len(ranks) + 1) / np.sort(ranks)).mean())


def first_is_translation(questions: Vectors, rows: Sequence[int], pool: Vectors) -> Floats:
    """Whether the nearest of a pool of sentences is the translation, 1 or 0.

    Args:
        questions: (n, dim) float32.
        rows: (n,) row of each one's translation in the pool.
        pool: (n_pool, dim) float32.

    Returns:
        (n,) float64; a sentence of the same score as the translation (its double) does no harm.
    """
    scores = questions @ pool.T
    own = scores[np.arange(len(rows)), list(rows)]
    found: Floats = (own >= scores.max(axis=1)).astype(np.float64)
    return found
