"""What a search finds: the ranking of a query's documents, that of each leg, and hits to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mretrieve.rank.fusion import Fusion, Ranking
from mretrieve.types import Document, Hit


@dataclass(frozen=True, slots=True)
class Ranked:
    """The ranking of one query and of the legs it was made of.

    `seen` (k,) says of each document of `dense` whether BM25 looked at its language. `seconds` are what
    `encode`, `dense` and `bm25` took for all queries that were ranked together. `fusion` joined the legs.
    """

    ranking: Ranking
    dense: Ranking | None = None
    bm25: Ranking | None = None
    seen: NDArray[np.bool_] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    fusion: Fusion | None = None


def as_hits(ranked: Ranked, documents: Sequence[Document]) -> list[Hit]:
    """Hits of a ranking, with the scores and ranks of its legs.

    Args:
        ranked: of one query.
        documents: those of `ranked.ranking`, in its order.
    """
    dense, bm25 = _places(ranked.dense), _places(ranked.bm25)
    hits = []
    rows, scores = ranked.ranking.rows.tolist(), ranked.ranking.scores.tolist()
    for rank, (row, score, document) in enumerate(zip(rows, scores, documents, strict=True), start=1):
        dense_rank, dense_score = dense.get(row, (None, None))
        bm25_rank, bm25_score = bm25.get(row, (None, None))
        hits.append(
            Hit(
                doc_id=document.doc_id,
                score=score,
                rank=rank,
                title=document.title,
                text=document.text,
                lang=document.lang,
                dense_score=dense_score,
                dense_rank=dense_rank,
                bm25_score=bm25_score,
                bm25_rank=bm25_rank,
            )
        )
    return hits


def _places(ranking: Ranking | None) -> dict[int, tuple[int, float]]:
    """Row -> (rank from 1, score)."""
    if ranking is None:
        return {}
    pairs = zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True)
    return {row: (rank, score) for rank, (row, score) in enumerate(pairs, start=1)}
