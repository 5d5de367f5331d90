"""The documents to mine from: an index, its vectors, and the model that made them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.index.documents import UNKNOWN
from mretrieve.index.manifest import check_encoder
from mretrieve.mine.vectors import DocumentVectors
from mretrieve.rank.fusion import Ranking
from mretrieve.rank.queries import with_languages
from mretrieve.rank.retriever import Retriever
from mretrieve.types import Document, Query


class Pool:
    """Searches an index by words, by meaning, and by meaning among the documents of one language.

    Args:
        index: folder written by `mretrieve index`, or a Retriever of it.
        model: the model that the index was built with, if it stands elsewhere now.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32`, `bf16` or `int8`.

    Raises:
        InputError: there is no usable index, or the model is not the one that it was built with.
    """

    def __init__(
        self,
        index: str | Path | Retriever,
        *,
        model: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        if not isinstance(index, Retriever):
            index = Retriever(index, model=model, device=device, dtype=dtype)
        self.retriever = index
        self.index = index.index
        self._asked = (model, device, dtype)
        self._query_vectors: dict[str, NDArray[np.float32]] = {}

    @property
    def path(self) -> Path:
        """The index's folder."""
        return self.index.path

    @property
    def languages(self) -> list[str]:
        """Languages of its documents."""
        return sorted(self.retriever.languages)

    @property
    def can_search_words(self) -> bool:
        """Whether the index has a BM25 part."""
        return bool(self.index.lexical_languages)

    @property
    def can_search_meaning(self) -> bool:
        """Whether the index has vectors."""
        return self.index.manifest.dense is not None

    @cached_property
    def vectors(self) -> DocumentVectors:
        """The documents' vectors."""
        return DocumentVectors(self.index)

    @cached_property
    def encoder(self) -> Encoder:
        """The model that the index was built with; one that was loaded is loaded once."""
        manifest = self.index.manifest
        if manifest.encoder is None:
            check_encoder(manifest, "", "", path=self.path)  # says what to do about it
        identity = manifest.encoder
        assert identity is not None
        model, device, dtype = self._asked
        encoder = Encoder.of_index(identity, model=model, device=device, dtype=dtype)
        check_encoder(manifest, encoder.name, encoder.fingerprint, path=self.path)
        return encoder

    def with_languages(self, queries: Sequence[Query]) -> list[Query]:
        """The queries, with their language where none was given."""
        return with_languages(queries, among=self.retriever.languages)

    def encode(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """(n, dim) float32 unit vectors of queries; those of the last call are kept for its parts.

        No longer, lest a vector come from another batch, and so with other roundings, when stopped work
        goes on.
        """
        texts = list(dict.fromkeys(query.text for query in queries))
        if not all(text in self._query_vectors for text in texts):
            self._query_vectors = dict(zip(texts, self.encoder.encode_queries(texts), strict=True))
        return np.stack([self._query_vectors[query.text] for query in queries])

    def search_meaning(self, queries: Sequence[Query], top_k: int) -> list[Ranking]:
        """The nearest documents of each query, in whatever language."""
        vectors = self.encode(queries)
        dense = self.index.dense
        assert dense is not None, "where there is an encoder there are vectors"
        scores, rows = dense.search(vectors, top_k)
        return [Ranking(r[r >= 0], s[r >= 0]) for r, s in zip(rows, scores, strict=True)]

    def search_words(self, queries: Sequence[Query], top_k: int) -> list[Ranking]:
        """The best documents of each query by BM25, in its own language."""
        return [one.ranking for one in self.retriever.rank(queries, top_k=top_k, mode="bm25")]

    def search_language(self, queries: Sequence[Query], lang: str, top_k: int) -> list[Ranking]:
        """The nearest documents of each query among those in `lang`."""
        rows, scores = self.vectors.nearest(self.encode(queries), lang, top_k)
        return [Ranking(r, s) for r, s in zip(rows, scores, strict=True)]

    def documents(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Document]:
        """Documents by row; `lang` is empty where it is not known."""
        found = self.index.documents.get(rows)
        return [replace(one, lang="") if one.lang == UNKNOWN else one for one in found]

    def rows(self, doc_ids: Sequence[str]) -> NDArray[np.int64]:
        """(n,) int64: rows of documents by their ids.

        Raises:
            InputError: the index does not hold one of them.
        """
        missing = [doc_id for doc_id in doc_ids if doc_id not in self._row_of]
        if missing:
            raise InputError(
                f"{self.path} does not hold the document '{missing[0]}' that the judgements name "
                f"({len(missing):,} are missing): build the index of the folder that they belong to."
            )
        return np.array([self._row_of[doc_id] for doc_id in doc_ids], np.int64)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        documents = self.index.documents
        return {doc_id: row for row, doc_id in enumerate(documents.doc_ids(np.arange(len(documents))))}
