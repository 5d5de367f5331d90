"""The segments of an index as if they were one index that has only the living documents.

Each has the rows of the one before it before its own. BM25 counts words over all segments together, with the
deleted documents until the index is compacted, as Lucene itself does.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mretrieve.index.documents import DocumentStore, Rows
from mretrieve.index.live import LiveRows
from mretrieve.types import Document

if TYPE_CHECKING:
    from mretrieve.index.faiss import DenseIndex
    from mretrieve.index.open import LexicalSearcher


class JoinedDocuments:
    """The living documents of several stores by row number; as `DocumentStore`, where they read alike."""

    def __init__(self, stores: Sequence[DocumentStore], live: LiveRows) -> None:
        self.stores = stores
        self.live = live
        self.starts = np.cumsum([0, *map(len, stores)])
        """(n_stores + 1,) the place of each store's first document, and the end."""

    def __len__(self) -> int:
        return int(self.starts[-1]) - len(self.live.deleted)

    def get(self, rows: Rows) -> list[Document]:
        """One document per row, in the order of `rows`."""
        found: dict[int, Document] = {}
        for store, places, start in self._by_store(rows):
            found.update(zip((places + start).tolist(), store.get(places), strict=True))
        return [found[place] for place in self._places(rows).tolist()]

    def doc_ids(self, rows: Rows) -> list[str]:
        """Only the ids of documents, as `get`."""
        found: dict[int, str] = {}
        for store, places, start in self._by_store(rows):
            found.update(zip((places + start).tolist(), store.doc_ids(places), strict=True))
        return [found[place] for place in self._places(rows).tolist()]

    def languages(self) -> dict[str, int]:
        """Living documents per language that has some, by the language's code in ascending order."""
        names = sorted({lang for store in self.stores for lang in store.languages()})
        counts = {lang: len(self.rows_of(lang)) for lang in names}
        return {lang: n_documents for lang, n_documents in counts.items() if n_documents}

    def rows_of(self, lang: str) -> NDArray[np.int64]:
        """(n,) int64, ascending: the rows of one language's living documents."""
        places = self._places_of(lang)
        return self.live.rows_of(places[self.live.is_live(places)])

    def numbers_of(self, lang: str) -> LiveRows:
        """Which of a language's documents, counted from 0 over all stores, are deleted."""
        return LiveRows(np.flatnonzero(~self.live.is_live(self._places_of(lang))))

    def in_languages(self, rows: NDArray[np.int64], languages: Collection[str]) -> NDArray[np.bool_]:
        """(k,) bool: whether each row's document is in one of the languages."""
        places = self._places(rows)
        inside = np.zeros(len(places), dtype=np.bool_)
        for store, start, end in zip(self.stores, self.starts, self.starts[1:], strict=False):
            here = (places >= start) & (places < end)
            inside[here] = store.in_languages(places[here] - start, languages)
        return inside

    def places_of_ids(self, doc_ids: Collection[str]) -> NDArray[np.int64]:
        """(n,) int64, ascending: places of the living documents whose id is one of these."""
        found = [
            start + store.rows_of_ids(doc_ids) for store, start in zip(self.stores, self.starts, strict=False)
        ]
        places = np.concatenate(found)
        return places[self.live.is_live(places)]

    def _places(self, rows: Rows) -> NDArray[np.int64]:
        wanted = np.asarray(rows, dtype=np.int64)
        if len(wanted) and not (0 <= wanted.min() and wanted.max() < len(self)):
            raise IndexError(
                f"rows {wanted.min()} to {wanted.max()} are not all among {len(self)} documents."
            )
        return self.live.places_of(wanted)

    def _places_of(self, lang: str) -> NDArray[np.int64]:
        parts = [start + store.rows_of(lang) for store, start in zip(self.stores, self.starts, strict=False)]
        return np.concatenate(parts)

    def _by_store(self, rows: Rows) -> list[tuple[DocumentStore, NDArray[np.int64], int]]:
        """Each store with those of its own row numbers that are wanted, and its start."""
        places = np.unique(self._places(rows))
        cuts = np.searchsorted(places, self.starts)
        return [
            (store, places[first:last] - start, int(start))
            for store, start, first, last in zip(self.stores, self.starts, cuts, cuts[1:], strict=False)
            if first < last
        ]


class JoinedDense:
    """The vectors of several FAISS indexes, of living documents only; searched as `DenseIndex`."""

    def __init__(self, parts: "Sequence[DenseIndex]", live: LiveRows) -> None:
        self._parts = parts
        self._live = live
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1]) - len(self._live.deleted)

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self._parts[0].dim

    def search(
        self, queries: NDArray[np.float32], top_k: int, *, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest vectors of each query, as `DenseIndex.search`."""
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}.")
        top_k = min(top_k, len(self) if among is None else len(among))
        if not top_k:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        wanted = None if among is None else self._live.places_of(among)
        all_scores = [np.full((len(queries), top_k), -np.inf, np.float32)]  # where too few are found
        all_rows = [np.full((len(queries), top_k), -1, np.int64)]
        for part, start, end in zip(self._parts, self._starts, self._starts[1:], strict=False):
            if wanted is None:
                scores, local = self._search_living(part, int(start), int(end), queries, top_k)
            else:
                inside = wanted[(wanted >= start) & (wanted < end)] - start
                if not len(inside):
                    continue
                scores, local = part.search(queries, min(top_k, len(inside)), among=inside)
            living = np.isfinite(scores) & (local >= 0)
            all_scores.append(scores)
            all_rows.append(np.where(living, self._live.rows_of(local + start), -1))
        scores, rows = np.concatenate(all_scores, axis=1), np.concatenate(all_rows, axis=1)
        best = np.lexsort((rows, -scores), axis=1)[:, :top_k]
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)

    def _search_living(
        self, part: "DenseIndex", start: int, end: int, queries: NDArray[np.float32], top_k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search one part for more than is wanted, until enough of what is found lives.

        Returns:
            Scores (n, k) and the part's own rows (n, k), where those of dead documents are -inf and -1.
        """
        n_dead = self._live.n_deleted(start, end)
        enough = min(top_k, end - start - n_dead)
        n_asked = min(end - start, top_k + min(n_dead, top_k))
        while True:
            scores, local = part.search(queries, n_asked)
            living = (local >= 0) & self._live.is_live(np.where(local < 0, -1, local + start))
            found_all = local[:, -1] < 0  # an approximate index has no more to give
            if n_asked == end - start or ((living.sum(axis=1) >= enough) | found_all).all():
                return np.where(living, scores, np.float32(-np.inf)), np.where(living, local, -1)
            n_asked = min(end - start, 4 * n_asked)


class LivingSearcher:
    """Leaves out the deleted documents of a BM25 index, and numbers the others without them."""

    def __init__(self, searcher: "LexicalSearcher", live: LiveRows) -> None:
        self._searcher = searcher
        self._live = live

    def search(self, query: str, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `LexicalSearcher.search`."""
        n_dead = len(self._live.deleted)
        n_asked = top_k + min(n_dead, top_k)
        while True:
            rows, scores = self._searcher.search(query, n_asked)
            living = self._live.is_live(rows)
            if living.sum() >= top_k or len(rows) < n_asked or n_asked >= top_k + n_dead:
                return self._live.rows_of(rows[living])[:top_k], scores[living][:top_k]
            n_asked = min(top_k + n_dead, 4 * n_asked)

    def close(self) -> None:
        """Give back what it holds; no search may be under way."""
        self._searcher.close()
