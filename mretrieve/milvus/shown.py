"""A collection in Milvus where a folder is expected: in servers and on the search page.

These know documents by row numbers. Milvus has none, so the documents that were found last get some.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.index.documents import Rows
from mretrieve.index.jvm import find_all
from mretrieve.index.manifest import BuiltBy, DenseEntry, LanguageEntry, Manifest, RankingEntry
from mretrieve.languages import normalize_language
from mretrieve.milvus.build import UNKNOWN
from mretrieve.milvus.retriever import MOST, MilvusRetriever
from mretrieve.rank.fusion import EMPTY, Fusion, Ranking
from mretrieve.rank.ranked import Ranked
from mretrieve.rank.retriever import DEPTH, Retriever
from mretrieve.types import Document, Hit, Mode, Query

KEPT = 10_000
"""Documents that were found last, which are remembered."""


class FoundDocuments:
    """Documents by the number that they got when they were first found; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: OrderedDict[int, Document] = OrderedDict()
        self._numbers: dict[str, int] = {}
        self._n_numbers = 0

    def __len__(self) -> int:
        return self._n_numbers

    def number(self, hits: Sequence[Hit]) -> NDArray[np.int64]:
        """(n,) int64: the numbers of hits, whose documents are kept until `KEPT` others were found."""
        with self._lock:
            for hit in hits:
                number = self._numbers.setdefault(hit.doc_id, self._n_numbers)
                self._n_numbers = max(self._n_numbers, number + 1)
                self._documents[number] = Document(hit.doc_id, hit.text, hit.title, hit.lang or UNKNOWN)
                self._documents.move_to_end(number)
            found = np.array([self._numbers[hit.doc_id] for hit in hits], np.int64)
            while len(self._documents) > KEPT:
                _, forgotten = self._documents.popitem(last=False)
                del self._numbers[forgotten.doc_id]
            return found

    def get(self, rows: Rows) -> list[Document]:
        """Documents by their numbers.

        Raises:
            InputError: one was found too long ago.
        """
        with self._lock:
            try:
                return [self._documents[int(row)] for row in rows]
            except KeyError as error:
                raise InputError("This document was found too long ago: search again.") from error

    def doc_ids(self, rows: Rows) -> list[str]:
        """Ids of documents, empty for forgotten ones."""
        with self._lock:
            known = (self._documents.get(int(row)) for row in rows)
            return ["" if document is None else document.doc_id for document in known]


class CollectionIndex:
    """What a collection says of itself, as `mretrieve.index.open.Index` does of a folder.

    Attributes:
        path: its address.
        manifest: documents and languages as they were when it was opened; there are no files. Languages are
            those of the first `MOST` documents.
        documents: those that were found.
    """

    is_replaced = False

    def __init__(self, searcher: MilvusRetriever) -> None:
        self.path = Path(str(searcher.address))
        self.documents = FoundDocuments()
        self._searcher = searcher
        about = searcher.about
        analyzer = f"{about.analysis} of Milvus"
        self.manifest = Manifest(
            documents=searcher.store.count(),
            languages={
                lang: LanguageEntry(n, analyzer) for lang, n in searcher.store.languages(MOST).items()
            },
            encoder=about.encoder,
            dense=DenseEntry(f"Milvus, {about.index_type}"),
            ranking=RankingEntry(fusion=str(searcher.fusion), k1=about.k1, b=about.b),
            files={},
            built=BuiltBy(mretrieve="", python="", faiss=None, at=""),
            plan=about.source,
        )

    @property
    def dense(self) -> MilvusRetriever:
        """What searches vectors."""
        return self._searcher

    @property
    def lexical_languages(self) -> list[str]:
        """Languages that BM25 is known to find something in."""
        return list(self.manifest.languages)

    def open_all(self) -> None:
        """Make sure that all can be searched.

        Raises:
            MissingDependencyError: Lucene, which cuts the queries for Milvus Lite, is not installed.
        """
        if self._searcher.about.analysis == "client":
            find_all()

    def check_generation(self) -> None:
        """A collection that changes stays the same one."""

    def close(self) -> None:
        """End the connection."""
        self._searcher.close()


class CollectionRetriever(Retriever):
    """Answers as `Retriever` does, from a collection in Milvus, which fuses by itself.

    Args:
        address: see `mretrieve.milvus.address`.
        with_legs: ask for each leg as well, to tell what it gave; three searches instead of one.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32`, `bf16` or `int8`.

    Raises:
        InputError: there is no such collection, or its model cannot be had.
        MissingDependencyError: pymilvus is not installed.
    """

    def __init__(
        self, address: str | Path, *, with_legs: bool = False, device: str = "auto", dtype: str = "auto"
    ) -> None:
        self.searcher = MilvusRetriever(address, device=device, dtype=dtype)
        try:
            self.index = CollectionIndex(self.searcher)  # type: ignore[assignment]  # as far as it is used
        except BaseException:
            self.searcher.close()
            raise
        self.languages = frozenset(self.index.manifest.languages) - {UNKNOWN}
        self.fusion: Fusion = self.searcher.fusion
        self.tuned = {}
        self._encoder = self.searcher.encoder
        self._with_legs = with_legs

    def rank(
        self,
        queries: Sequence[Query],
        *,
        top_k: int = 100,
        mode: Mode | None = None,
        languages: Collection[str] | None = None,
        vectors: NDArray[np.float32] | None = None,
    ) -> list[Ranked]:
        """As `Retriever.rank`."""
        mode = self.check(queries, top_k=top_k, mode=mode)
        if vectors is None and mode != "bm25":
            vectors = self.searcher.encode(queries)

        def ask(one: Mode, depth: int) -> list[Ranking]:
            found = self.searcher.rank(queries, top_k=depth, mode=one, languages=languages, vectors=vectors)
            return [self._ranking(hits) for hits in found]

        best = ask(mode, top_k)
        if mode == "dense":
            return [Ranked(one, dense=one) for one in best]
        if mode == "bm25":
            return [Ranked(one, bm25=one) for one in best]
        if not self._with_legs:
            return [Ranked(one) for one in best]
        depth = max(top_k, DEPTH)
        legs = zip(best, ask("dense", depth), ask("bm25", depth), strict=True)
        return [Ranked(one, dense, bm25, fusion=self.fusion) for one, dense, bm25 in legs]

    def _ranking(self, hits: Sequence[Hit]) -> Ranking:
        if not hits:
            return EMPTY
        scores = np.array([hit.score for hit in hits], EMPTY.scores.dtype)
        return Ranking(self._documents.number(hits), scores)

    @property
    def _documents(self) -> FoundDocuments:
        documents = self.index.documents
        assert isinstance(documents, FoundDocuments)
        return documents

    def check(self, queries: Sequence[Query], *, top_k: int, mode: Mode | None) -> Mode:
        """As `Retriever.check`."""
        mode = mode or "hybrid"
        self.searcher.check(queries, top_k, mode)
        return mode

    def check_languages(self, languages: Collection[str] | None) -> frozenset[str] | None:
        """As `Retriever.check_languages`, whatever languages the collection may have."""
        if isinstance(languages, str):
            raise InputError(f"Give languages as a list: ['{languages}'].")
        return None if languages is None else frozenset(map(normalize_language, languages))

    def fusion_for(self, lang: str) -> Fusion:
        """How the legs are joined, which is the same for all languages."""
        return self.fusion
