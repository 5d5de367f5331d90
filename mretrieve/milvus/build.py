"""Fill a collection in Milvus from a source, in batches that may come twice without harm."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mretrieve.datasets.source import Source, open_source
from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.index.stages import OnProgress
from mretrieve.indexing import encoder_of, identity_of, with_languages
from mretrieve.languages import normalize_language
from mretrieve.milvus.address import parse_milvus_address
from mretrieve.milvus.analysis import FIELD_BYTES, Analysis, cut_to_field, document_terms
from mretrieve.milvus.store import About, MilvusStore, choose_index_type, key_of
from mretrieve.recipe import Recipe
from mretrieve.types import Document

logger = logging.getLogger(__name__)

BATCH = 512
"""Documents that are encoded and sent together."""

UNKNOWN = "und"
"""The language of documents of which none is known."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What a collection holds now.

    Attributes:
        documents: in it.
        written: of them by this call; the others were there.
        shortened: of those written, how many had a text longer than a field of Milvus holds.
        source: what was read, and what it passed over.
    """

    documents: int
    written: int
    shortened: int
    source: Source


def build_collection(
    source: str | Path | Source,
    address: str | Path,
    *,
    recipe: Recipe | None = None,
    index_type: str = "auto",
    device: str = "auto",
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> Filled:
    """Index a collection in Milvus; called again in the same way, it sends what is missing.

    Args:
        source: as in `build_index`; what to do about broken records, an open source says.
        address: see `mretrieve.milvus.address`.
        recipe: its model, language and BM25 parameters count here; a FAISS factory does not.
        index_type: of the vectors: `auto`, `flat`, `hnsw`, `ivf`, `diskann` or `gpu_cagra`.
        device: `auto`, `cpu` or `cuda`.
        overwrite: delete a collection of that name first.
        on_progress: told of the documents that are there.

    Raises:
        InputError: the source, the address or a choice cannot be used, or the collection holds something
            else.
        MissingDependencyError: pymilvus is not installed, or for Milvus Lite Lucene is not.
    """
    recipe = recipe or Recipe()
    where = parse_milvus_address(address)
    kind = choose_index_type(index_type, where)
    documents = open_source(source)
    encoder = encoder_of(recipe, device)
    if encoder is None or recipe.bm25 is None:
        raise InputError(
            "An index in Milvus has a dense and a BM25 part: leave out --no-dense and --no-lexical."
        )
    lang = "" if recipe.lang == "auto" else normalize_language(recipe.lang)
    identity = identity_of(encoder, documents)
    what = f"{documents.fingerprint()} {documents.on_error} {lang} {identity.fingerprint}"
    analysis: Analysis = "client" if where.is_lite else "server"
    fingerprint = hashlib.sha256(what.encode()).hexdigest()
    about = About(identity, analysis, kind, fingerprint, recipe.bm25.k1, recipe.bm25.b)
    with MilvusStore(where) as store:
        _make_ready(store, about, overwrite=overwrite)
        filling = _Filling(store, encoder, about, on_progress or _silent)
        filling.write(with_languages(documents.documents(), lang=lang))
        store.flush()
        return Filled(store.count(), filling.written, filling.shortened, documents)


def _make_ready(store: MilvusStore, about: About, *, overwrite: bool) -> None:
    """Have a collection that holds nothing but what was to be put there."""
    if store.exists():
        found = store.about()  # never drop what is not ours
        if found == about:
            logger.info("Going on with the collection %s.", store.address)
            store.load()
            return
        if not overwrite:
            raise InputError(
                f"{store.address} holds another source, model or kind of index. Add --overwrite to delete "
                "it first, or choose another name."
            )
        store.drop()
    store.create(about)


@dataclass(slots=True)
class _Filling:
    store: MilvusStore
    encoder: Encoder
    about: About
    on_progress: OnProgress
    written: int = 0
    shortened: int = 0

    def write(self, documents: Iterable[Document]) -> None:
        """Send what the collection has not, batch by batch."""
        done = 0
        for batch in _batches(documents):
            missing = self.store.missing([document.doc_id for document in batch])
            new = [document for document in batch if document.doc_id in missing]
            if new:
                self.store.upsert(self._rows(new))
                self.written += len(new)
            done += len(batch)
            self.on_progress("documents", done, None)

    def _rows(self, documents: list[Document]) -> list[dict[str, Any]]:
        vectors = self.encoder.encode_documents([document.contents for document in documents])
        rows = []
        for document, vector in zip(documents, vectors, strict=True):
            if len(document.doc_id.encode()) > FIELD_BYTES:
                raise InputError(f"{document.place}: the id is longer than a field of Milvus holds.")
            text, title = cut_to_field(document.text), cut_to_field(document.title)
            self.shortened += (text, title) != (document.text, document.title)
            terms = document_terms(document.contents, document.lang, self.about.analysis)
            rows.append(
                {
                    "key": key_of(document.doc_id),
                    "doc_id": document.doc_id,
                    "lang": document.lang or UNKNOWN,
                    "title": title,
                    "text": text,
                    "terms": terms,
                    "dense": vector,
                }
            )
        return rows


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    source = iter(documents)
    while batch := list(islice(source, BATCH)):
        yield batch


def _silent(stage: str, done: int, total: int | None) -> None:
    pass
