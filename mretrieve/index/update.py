"""Change an index: each change is a new generation, which takes the old one's place in one act.

The old generation's files are never written to. The new one is made beside it, in `my-index.building/`: the
old files are linked, not copied; new documents become a segment, an index of its own below `segments/`; and
`deleted.npy` says which documents are dead. `compact` makes one index of all segments again. A change that
was killed goes on where it stopped when it is asked for again, as a build does, and else leaves nothing.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.index import swap
from mretrieve.index.build import build, is_finished
from mretrieve.index.documents import DocumentStore
from mretrieve.index.faiss_gpu import Device
from mretrieve.index.generation import FIRST, write_compacted, write_generation
from mretrieve.index.joined import JoinedDocuments
from mretrieve.index.manifest import (
    DOCUMENTS,
    MANIFEST,
    SEGMENTS,
    Manifest,
    is_index,
    read_manifest,
)
from mretrieve.index.open import Index, open_index
from mretrieve.index.plan import NOTES, PLAN, BuildPlan
from mretrieve.index.stages import Encode, LexicalOptions, OnProgress, Work
from mretrieve.index.stored import StoredVectors
from mretrieve.types import Document

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Change:
    """What a change did: documents added, those among them that took another's place, and deleted ones."""

    manifest: Manifest
    added: int = 0
    replaced: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """How the parts of an index are made; each is given exactly when the index has such a part.

    Attributes:
        encode: texts -> vectors, with the index's own model.
        lexical: how BM25 indexes are written.
        device: where FAISS trains.
    """

    encode: Encode | None = None
    lexical: LexicalOptions | None = None
    device: Device = "auto"


def add_documents(
    documents: Iterable[Document],
    path: Path,
    *,
    source: str,
    parts: Parts,
    on_progress: OnProgress | None = None,
) -> Change:
    """Add documents; one whose id the index has already takes the old one's place.

    Args:
        documents: each id once; the same on each start of the same change, `lang` filled where it is known.
        path: folder of the index.
        source: a fingerprint of the documents; a change that was stopped resumes under an equal one.
        parts: how vectors and BM25 indexes are made.
        on_progress: as in `build`.

    Raises:
        InputError: there is no usable index, no document or one id twice, or the disk is full.
    """
    with _changing(path) as (target, index):
        plan = _plan(index, f"add {source}", parts)
        work = Work(swap.building_folder(target), plan, on_progress or _silent)
        if not is_finished(work):
            name = _next_name(index.manifest)
            segment = _make_segment(work, name, documents, parts)
            store = DocumentStore(segment / DOCUMENTS)
            ids = _unique_ids(store)
            taken = _places_of_ids(index, ids)
            write_generation(work, index, np.union1d(_deleted(index), taken), added=name)
        return _place(work.folder, target, index.manifest)


def delete_documents(doc_ids: Collection[str], path: Path, *, ignore_missing: bool = False) -> Change:
    """Delete documents by their ids.

    Args:
        doc_ids: of the documents.
        path: folder of the index.
        ignore_missing: pass over ids that the index does not hold.

    Raises:
        InputError: there is no usable index, it does not hold an id, or no document would be left.
    """
    with _changing(path) as (target, index):
        wanted = set(doc_ids)
        places = _places_of_ids(index, wanted)
        if len(places) < len(wanted) and not ignore_missing:
            _refuse_missing(path, index, wanted)
        if not len(places):
            return Change(index.manifest)
        if len(places) == len(index.documents):
            raise InputError(
                f"This would leave {path} without any document, which an index cannot be: "
                "add the new ones first, or delete its folder instead."
            )
        digest = hashlib.sha256("\0".join(sorted(wanted)).encode("utf-8", "surrogatepass")).hexdigest()
        work = Work(swap.building_folder(target), _plan(index, f"delete {digest}", None), _silent)
        if not is_finished(work):
            write_generation(work, index, np.union1d(_deleted(index), places), added=None)
        return _place(work.folder, target, index.manifest)


def compact(path: Path, *, factory: str, parts: Parts, on_progress: OnProgress | None = None) -> Manifest:
    """Make one index of all segments, without the deleted documents.

    Vectors are taken from the index where it holds them whole, and encoded again where it does not.

    Args:
        path: folder of the index.
        factory: FAISS factory string of the new dense part, or "auto".
        parts: how vectors and BM25 indexes are made.
        on_progress: as in `build`.

    Returns:
        The manifest of the new generation; that of the old one where there was nothing to do.

    Raises:
        InputError: there is no usable index, or the disk is full.
    """
    with _changing(path) as (target, index):
        if not index.manifest.segments:
            return index.manifest
        plan = replace(_plan(index, "compact", parts), faiss=factory)
        rows = _RowsOf(index, parts.encode, on_progress or _silent)
        work = Work(swap.building_folder(target), plan, rows.on_progress)
        if not is_finished(work):
            encode = None if parts.encode is None else rows.encode
            segment = _make_segment(work, FIRST, _living(index), Parts(encode, parts.lexical, parts.device))
            write_compacted(work, index, segment)
        files.remove(work.folder / SEGMENTS)
        return _place(work.folder, target, index.manifest).manifest


class _RowsOf:
    """Stands for an encoder: gives the vectors of an index's rows, shard after shard.

    A build tells of each shard's vectors that are done, also of those made before it was killed; so it is
    known which rows it asks for next.
    """

    def __init__(self, index: Index, encode: Encode | None, on_progress: OnProgress) -> None:
        self._index = index
        self._encode = encode
        self._on_progress = on_progress
        self._n_done = 0
        self._stored: StoredVectors | None = None

    def on_progress(self, stage: str, done: int, total: int | None) -> None:
        if stage == "vectors":
            self._n_done = done
        self._on_progress(stage, done, total)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        assert self._encode is not None
        if self._stored is None:
            self._stored = StoredVectors(self._index)
        return self._stored.get(self._n_done, texts, self._encode)


@contextmanager
def _changing(path: Path) -> Iterator[tuple[Path, Index]]:
    """Hold the right to change an index: its folder, and what is in it now."""
    target = swap.plain_name(path)
    open_index(target)  # says what is wrong before anything is written
    swap.check_target(target, overwrite=True)
    with files.storage_errors(target), files.locked(target):
        swap.recover(target)
        index = open_index(target)
        try:
            yield target, index
        finally:
            index.close()


def _plan(index: Index, what: str, parts: Parts | None) -> BuildPlan:
    """The plan of a change and of the segment that it makes: another one for each generation."""
    manifest = index.manifest
    has_bm25 = bool(index.lexical_languages)
    if parts is not None and (
        (parts.encode is None) != (manifest.dense is None) or (parts.lexical is None) == has_bm25
    ):
        raise ValueError("encode and lexical should be given exactly when the index has such a part.")
    generation = files.sha256_of(index.path / MANIFEST)
    return BuildPlan(
        source=f"{generation} {what}",
        encoder=manifest.encoder,
        lexical=has_bm25,
        ranking=manifest.ranking,
        device="auto" if parts is None else parts.device,
    )


def _make_segment(work: Work, name: str, documents: Iterable[Document], parts: Parts) -> Path:
    """Build a segment, or go on with it, or find it finished."""
    files.make_folder(work.folder / SEGMENTS)
    segment = work.folder / SEGMENTS / name
    if is_index(segment) and read_manifest(segment).plan != work.plan.digest():
        swap.discard(segment)
    if not is_index(segment):
        build(
            documents,
            segment,
            plan=work.plan,
            encode=parts.encode,
            lexical=parts.lexical,
            on_progress=work.on_progress,
        )
    files.remove(files.lock_file(segment))  # of a start that was killed
    return segment


def _place(folder: Path, target: Path, old: Manifest) -> Change:
    """Put the new generation in the old one's place."""
    files.remove(folder / NOTES)
    files.remove(folder / PLAN)
    files.sync_folder(folder)
    swap.place(folder, target, overwrite=True)
    new = read_manifest(target)
    n_added = len(new.segments) and _n_places(new) - _n_places(old)
    n_dead = new.deleted - old.deleted
    return Change(new, added=n_added, replaced=n_dead if n_added else 0, deleted=0 if n_added else n_dead)


def _n_places(manifest: Manifest) -> int:
    return manifest.documents + manifest.deleted


def _next_name(manifest: Manifest) -> str:
    return f"{int(max(manifest.segments, default=FIRST)) + 1:06d}"


def _deleted(index: Index) -> NDArray[np.int64]:
    documents = index.documents
    return documents.live.deleted if isinstance(documents, JoinedDocuments) else np.empty(0, np.int64)


def _places_of_ids(index: Index, doc_ids: Collection[str]) -> NDArray[np.int64]:
    documents = index.documents
    if isinstance(documents, JoinedDocuments):
        return documents.places_of_ids(doc_ids)
    return documents.rows_of_ids(doc_ids)


def _unique_ids(store: DocumentStore) -> set[str]:
    ids: set[str] = set()
    for doc_id in store.doc_ids(range(len(store))):
        if doc_id in ids:
            raise InputError(f"The document {doc_id!r} is to be added twice: give each id once.")
        ids.add(doc_id)
    return ids


def _refuse_missing(path: Path, index: Index, wanted: set[str]) -> None:
    known = _places_of_ids(index, wanted)
    stores = index.documents
    rows = stores.live.rows_of(known) if isinstance(stores, JoinedDocuments) else known
    missing = sorted(wanted - set(stores.doc_ids(rows)))
    if missing:  # else an id stands twice in an index that was built of documents with equal ids
        raise InputError(
            f"{path} does not hold {', '.join(map(repr, missing[:5]))}{' ...' if len(missing) > 5 else ''} "
            f"({len(missing):,} of {len(wanted):,} ids): nothing was deleted. Correct them, or pass over "
            "them with --ignore-missing."
        )


def _living(index: Index) -> Iterator[Document]:
    for start in range(0, len(index.documents), _ROWS_AT_ONCE):
        yield from index.documents.get(range(start, min(start + _ROWS_AT_ONCE, len(index.documents))))


def _silent(stage: str, done: int, total: int | None) -> None:
    pass
