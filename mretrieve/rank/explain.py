"""Why a document was found: what each leg gave it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.languages import detect_languages
from mretrieve.rank.fusion import EMPTY, Fusion, Ranking, scale_minmax
from mretrieve.rank.ranked import Ranked
from mretrieve.rank.retriever import DEPTH, Retriever
from mretrieve.types import Hit, Mode, Query


@dataclass(frozen=True, slots=True)
class Found:
    """A hit, and what it owes to each leg.

    Attributes:
        hit: with the scores and ranks of the legs.
        row: of its document in the index.
        dense_level: 0 where it stands with the weakest of the dense leg's candidates, 1 with the best; None
            where it is not among them.
        bm25_level: the same of BM25.
        dense_part: what the dense leg adds to the score.
        bm25_part: what BM25 adds to the score.
        unseen_part: what is added since BM25 did not look at documents of this language.
        fusion: what joined the legs; None where there is one.
    """

    hit: Hit
    row: int
    dense_level: float | None = None
    bm25_level: float | None = None
    dense_part: float = 0.0
    bm25_part: float = 0.0
    unseen_part: float = 0.0
    fusion: Fusion | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, best first; in which mode and as text of which language the query was read."""

    hits: list[Found]
    mode: Mode
    lang: str


def search_explained(
    retriever: Retriever,
    query: str,
    *,
    top_k: int = 10,
    mode: Mode | None = None,
    lang: str | None = None,
    languages: Collection[str] | None = None,
) -> Answer:
    """Find the best documents for a query, and say what each leg gave them.

    Arguments and errors are those of `Retriever.search`, and so are the hits.
    """
    mode = retriever.check([Query("1", query, lang or "")], top_k=top_k, mode=mode)
    lang = lang or detect_languages([query], among=retriever.languages)[0]
    depth = max(top_k, DEPTH)  # so that levels mean the same in every mode
    (ranked,) = retriever.rank([Query("1", query, lang)], top_k=depth, mode=mode, languages=languages)
    best = replace(ranked, ranking=ranked.ranking.top(top_k))
    return Answer(list(_explain(retriever, best)), mode, lang)


def similar(
    retriever: Retriever,
    row: int,
    *,
    top_k: int = 10,
    mode: Mode | None = None,
    languages: Collection[str] | None = None,
) -> Answer:
    """Find the documents that are most like one of the index, which is itself left out.

    Args:
        retriever: of the index.
        row: of the document; its title and text are the query.
        top_k: how many to find.
        mode: as in `Retriever.search`.
        languages: as in `Retriever.search`.

    Raises:
        InputError: the index has no such row, or as in `Retriever.search`.
    """
    if not 0 <= row < len(retriever.index.documents):
        raise InputError(f"{retriever.index.path} has no document number {row}: search again.")
    (document,) = retriever.index.documents.get([row])
    lang = document.lang if document.lang in retriever.languages else None
    answer = search_explained(
        retriever, document.contents, top_k=top_k + 1, mode=mode, lang=lang, languages=languages
    )
    others = [one for one in answer.hits if one.row != row][:top_k]
    ranked = [replace(one, hit=replace(one.hit, rank=rank)) for rank, one in enumerate(others, start=1)]
    return replace(answer, hits=ranked)


def _explain(retriever: Retriever, ranked: Ranked) -> Iterator[Found]:
    dense_parts, bm25_parts, unseen_parts = _parts(ranked)
    dense, bm25 = _levels(ranked.dense), _levels(ranked.bm25)
    for row, hit in zip(ranked.ranking.rows.tolist(), retriever.hits(ranked), strict=True):
        yield Found(
            hit,
            row,
            dense.get(row),
            bm25.get(row),
            dense_parts.get(row, 0.0),
            bm25_parts.get(row, 0.0),
            unseen_parts.get(row, 0.0),
            ranked.fusion,
        )


def _parts(ranked: Ranked) -> tuple[dict[int, float], ...]:
    """Row -> what the dense leg, BM25 and the benefit of the doubt add; together they are the score."""
    if ranked.dense is None or ranked.bm25 is None or ranked.fusion is None:
        return _parts_of_one(ranked, ranked.dense if ranked.bm25 is None else ranked.bm25)
    if (leg := ranked.fusion.alone(ranked.dense, ranked.bm25)) is not None:
        return _parts_of_one(ranked, leg)
    # A sum over the legs, so each can be had by leaving the others out.
    fuse = ranked.fusion.fuse
    dense, bm25 = _by_row(fuse(ranked.dense, EMPTY)), _by_row(fuse(EMPTY, ranked.bm25))
    with_unseen = _by_row(fuse(ranked.dense, EMPTY, seen=ranked.seen))
    return dense, bm25, {row: score - dense[row] for row, score in with_unseen.items()}


def _parts_of_one(ranked: Ranked, leg: Ranking | None) -> tuple[dict[int, float], ...]:
    """As `_parts`, where one leg alone makes the score."""
    scores = _by_row(ranked.ranking)
    return (scores, {}, {}) if leg is ranked.dense else ({}, scores, {})


def _levels(ranking: Ranking | None) -> dict[int, float]:
    if ranking is None or not len(ranking.rows):
        return {}
    levels = scale_minmax(ranking.scores.astype(np.float64))
    return dict(zip(ranking.rows.tolist(), levels.tolist(), strict=True))


def _by_row(ranking: Ranking) -> dict[int, float]:
    return dict(zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True))


def closeness(retriever: Retriever, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """How near texts, such as the sentences of a hit, are to a query.

    Returns:
        (n,) float32, the cosines.

    Raises:
        InputError: the index has no dense part, or its model cannot be used.
    """
    encoder = retriever.encoder
    cosines: NDArray[np.float32] = encoder.encode_documents(texts) @ encoder.encode_queries([query])[0]
    return cosines
