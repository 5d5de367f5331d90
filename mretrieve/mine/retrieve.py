"""Find the documents that look like answers: by words, by meaning, and in every language."""

from collections.abc import Sequence
from typing import get_args

from mretrieve.errors import InputError
from mretrieve.mine.candidates import Candidate, Candidates
from mretrieve.mine.pool import Pool
from mretrieve.rank.fusion import Fusion, Ranking
from mretrieve.types import Document, Mode, Query

_FUSION = Fusion("rrf", 60.0)
"""Only the order counts here, and ranks do for it: what is kept is decided by the scorer."""


def retrieve(
    queries: Sequence[Query],
    pool: Pool | Sequence[Pool],
    *,
    top_k: int = 200,
    mode: Mode = "hybrid",
    per_language: int = 0,
) -> list[Candidates]:
    """Find candidates for hard negatives.

    Args:
        queries: their `lang` is detected where it is empty.
        pool: where to search; of several the finds are joined, a document counting where it came first.
        top_k: documents per query from the whole pool.
        mode: `dense`, `bm25` or `hybrid`, which joins both legs by their ranks.
        per_language: documents besides for each language of the pool but the query's own. A model that
            prefers the query's language would otherwise bring next to none of them.

    Returns:
        For each query its candidates, those of the whole pool first, best first.

    Raises:
        InputError: a number or the mode is out of range, or an index lacks the leg.
    """
    _check(top_k, mode, per_language)
    pools = [pool] if isinstance(pool, Pool) else list(pool)
    if not queries:
        return []
    queries = pools[0].with_languages(queries)
    finds = [_Finds(one, queries) for one in pools]
    for found in finds:
        found.search(top_k, mode)
        if per_language:
            found.search_languages(per_language)
    joined = []
    for number, query in enumerate(queries):
        candidates: dict[str, Candidate] = {}
        for found in finds:
            for candidate in found.candidates(number):
                candidates.setdefault(candidate.document.doc_id, candidate)
        joined.append(Candidates(query, tuple(candidates.values())))
    return joined


class _Finds:
    """What one pool holds for each of the queries; documents are read once for all of them."""

    def __init__(self, pool: Pool, queries: Sequence[Query]) -> None:
        self.pool, self.queries = pool, queries
        # Of each query: row -> (source, rank), in the order of finding.
        self.places: list[dict[int, tuple[str, int]]] = [{} for _ in queries]
        self._documents: dict[int, Document] = {}

    def search(self, top_k: int, mode: Mode) -> None:
        """Search the whole pool."""
        if mode != "hybrid":
            search = self.pool.search_meaning if mode == "dense" else self.pool.search_words
            self._add(search(self.queries, top_k), mode)
            return
        by_meaning = self.pool.search_meaning(self.queries, top_k)
        by_words = self.pool.search_words(self.queries, top_k)
        for places, dense, bm25 in zip(self.places, by_meaning, by_words, strict=True):
            legs = {"dense": set(dense.rows.tolist()), "bm25": set(bm25.rows.tolist())}
            fused = _FUSION.fuse(dense, bm25).top(top_k)
            for rank, row in enumerate(fused.rows.tolist(), start=1):
                places[row] = ("+".join(leg for leg, rows in legs.items() if row in rows), rank)

    def search_languages(self, top_k: int) -> None:
        """Search the documents of each language for the queries that are asked in another one."""
        for lang in self.pool.languages:
            numbers = [number for number, query in enumerate(self.queries) if query.lang != lang]
            if not numbers:
                continue
            others = [self.queries[number] for number in numbers]
            found = self.pool.search_language(others, lang, top_k)
            self._add(found, f"dense@{lang}", numbers)

    def _add(self, rankings: Sequence[Ranking], source: str, numbers: Sequence[int] | None = None) -> None:
        for number, ranking in zip(numbers or range(len(self.queries)), rankings, strict=True):
            for rank, row in enumerate(ranking.rows.tolist(), start=1):
                self.places[number].setdefault(row, (source, rank))

    def candidates(self, number: int) -> list[Candidate]:
        """The candidates of one query."""
        places = self.places[number]
        missing = [row for row in places if row not in self._documents]
        self._documents.update(zip(missing, self.pool.documents(missing), strict=True))
        return [Candidate(self._documents[row], source, rank) for row, (source, rank) in places.items()]


def _check(top_k: int, mode: str, per_language: int) -> None:
    if top_k < 1:
        raise InputError(f"top_k is {top_k}: ask for one candidate or more.")
    if per_language < 0:
        raise InputError(f"per_language is {per_language}: ask for none (0) or more.")
    if mode not in get_args(Mode):
        raise InputError(f"Unknown mode '{mode}'. Choose from: {', '.join(get_args(Mode))}.")
