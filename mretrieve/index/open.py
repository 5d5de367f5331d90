"""Open an index: check that it is whole, and give its parts, each loaded when it is first used."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.index import swap
from mretrieve.index.documents import DocumentStore
from mretrieve.index.faiss import DenseIndex
from mretrieve.index.faiss_gpu import Device
from mretrieve.index.joined import JoinedDense, JoinedDocuments, LivingSearcher
from mretrieve.index.live import LiveRows, read_deleted
from mretrieve.index.manifest import (
    DELETED,
    DENSE,
    DOCUMENTS,
    LEXICAL,
    MANIFEST,
    SEGMENTS,
    Manifest,
    check_manifest,
    is_index,
    read_manifest,
)
from mretrieve.index.plan import is_build

HASHED_UP_TO = 64 << 20
"""Bytes up to which `open_index` hashes all files: some 50 ms. Larger indexes have `verify`."""

_BETWEEN_RENAMES_SECONDS = 0.05
_BETWEEN_RENAMES_TRIES = 40


class LexicalSearcher(Protocol):
    """Searches the BM25 index of one language."""

    def search(self, query: str, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows within the language, (k,) int64, and scores, (k,) float32, best first."""

    def close(self) -> None:
        """Give back what it holds; no search may be under way."""


OpenLexical = Callable[[Path | Sequence[Path], str], LexicalSearcher]
"""(folder, or those of several segments in their order; language) -> searcher."""


class Index:
    """The parts of an index on disk. Safe to use from several threads.

    Attributes:
        path: its folder.
        manifest: what it says about itself.
        folders: of its segments, in their order; its own where it has none.
        documents: its documents by row number.
    """

    documents: DocumentStore | JoinedDocuments

    def __init__(
        self, path: Path, *, open_lexical: OpenLexical | None = None, device: Device = "cpu"
    ) -> None:
        """Open a folder without the checks of `open_index`."""
        self.path = path
        self._device = device
        self._generation = _generation(path)
        self.manifest = read_manifest(path)
        names = self.manifest.segments
        self.folders = [path / SEGMENTS / name for name in names] or [path]
        self._manifests = list(map(read_manifest, self.folders)) if names else [self.manifest]
        self.documents = self._join_documents() if names else DocumentStore(path / DOCUMENTS)
        self._open_lexical = open_lexical or _open_lucene
        self._dense: DenseIndex | JoinedDense | None = None
        self._lexical: dict[str, LexicalSearcher] = {}
        self._rows: dict[str, NDArray[np.int64]] = {}
        self._lock = threading.RLock()
        if len(self.documents) != self.manifest.documents:
            raise _mismatch(path, DOCUMENTS, len(self.documents), self.manifest.documents)

    def _join_documents(self) -> JoinedDocuments:
        stores = [DocumentStore(folder / DOCUMENTS) for folder in self.folders]
        for folder, store, entry in zip(self.folders, stores, self.manifest.segments.values(), strict=True):
            if len(store) != entry.documents:
                raise _mismatch(folder, DOCUMENTS, len(store), entry.documents)
        deleted = read_deleted(
            self.path / DELETED, n_places=sum(map(len, stores)), n_deleted=self.manifest.deleted
        )
        return JoinedDocuments(stores, LiveRows(deleted))

    @property
    def dense(self) -> DenseIndex | JoinedDense | None:
        """The FAISS index, opened when first asked for; None if there is no dense part."""
        with self._lock:
            if self._dense is None and self.manifest.dense is not None:
                parts = [self._open_dense(number) for number in range(len(self.folders))]
                self.check_generation()
                if isinstance(self.documents, JoinedDocuments):
                    self._dense = JoinedDense(parts, self.documents.live)
                else:
                    self._dense = parts[0]
            return self._dense

    def _open_dense(self, number: int) -> DenseIndex:
        # The search parameters of the first segment, which is the large one, may have been tuned.
        entry = (self._manifests[number] if number else self.manifest).dense
        folder, expected = self.folders[number], self._manifests[number].documents
        assert entry is not None
        dense = DenseIndex.open(folder / DENSE, search=entry.search, device=self._device)
        if len(dense) != expected:
            self.check_generation()
            raise _mismatch(folder, DENSE, len(dense), expected)
        return dense

    @property
    def lexical_languages(self) -> list[str]:
        """Languages that have a BM25 index."""
        return [lang for lang, entry in self.manifest.languages.items() if entry.analyzer is not None]

    def lexical(self, lang: str) -> LexicalSearcher:
        """The BM25 index of a language, opened when first asked for.

        Raises:
            KeyError: the language is not one of `lexical_languages`.
        """
        if lang not in self.lexical_languages:
            raise KeyError(lang)
        with self._lock:
            if lang not in self._lexical:
                folders = self.lexical_folders(lang)
                searcher = self._open_lexical(folders[0] if len(folders) == 1 else folders, lang)
                self.check_generation()
                if isinstance(self.documents, JoinedDocuments):
                    searcher = LivingSearcher(searcher, self.documents.numbers_of(lang))
                self._lexical[lang] = searcher
            return self._lexical[lang]

    def lexical_folders(self, lang: str) -> list[Path]:
        """Where the BM25 index of a language stands, in each segment that has documents in it."""
        return [
            folder / LEXICAL / lang
            for folder, manifest in zip(self.folders, self._manifests, strict=True)
            if lang in manifest.languages
        ]

    def lexical_number(self, lang: str, row: int) -> int:
        """The number that a document has in its language's BM25 folders, deleted ones counted too."""
        number = np.searchsorted(self.rows_of(lang), [row])
        if isinstance(self.documents, JoinedDocuments):
            number = self.documents.numbers_of(lang).places_of(number)
        return int(number[0])

    def rows_of(self, lang: str) -> NDArray[np.int64]:
        """(n,) int64, ascending: item i is the row of the i-th document of a language; kept once made."""
        with self._lock:
            if lang not in self._rows:
                self._rows[lang] = self.documents.rows_of(lang)
            return self._rows[lang]

    def open_all(self) -> None:
        """Open every part now, so that the index can be searched on after its folder was replaced.

        Raises:
            InputError: a part cannot be used, or the folder was replaced meanwhile.
            MissingDependencyError: FAISS, Lucene or Java is not installed.
        """
        _ = self.dense
        for lang in self.manifest.languages:
            self.rows_of(lang)
        for lang in self.lexical_languages:
            self.lexical(lang)
        self.check_generation()

    def close(self) -> None:
        """Let go of the files, which else keep the room of a deleted index on the disk.

        No search may be under way, and none may follow.
        """
        with self._lock:
            for searcher in self._lexical.values():
                searcher.close()
            self._lexical.clear()
            self._dense = None
            self._open_lexical = _open_lucene  # one given may hold what holds this index

    @property
    def is_replaced(self) -> bool:
        """Whether the folder holds another index than the one that was opened, or none."""
        return _generation(self.path) != self._generation

    def check_generation(self) -> None:
        """Make sure that the folder still holds the index that was opened.

        Raises:
            InputError: it was replaced by another, whose parts must not be mixed with these.
        """
        if self.is_replaced:
            raise InputError(f"{self.path} was replaced by another index while it was open: open it again.")


def open_index(path: Path, *, open_lexical: OpenLexical | None = None, device: Device = "cpu") -> Index:
    """Open an index after checking that it is whole.

    Args:
        path: folder written by `build`.
        open_lexical: how to open a BM25 index; by default with Lucene.
        device: where vectors are searched: see `DenseIndex.open`.

    Raises:
        InputError: there is no index, it is half-built, of a newer format, or a file is missing or
            damaged. Contents are compared with their SHA-256 up to 64 MiB altogether.
    """
    path = swap.plain_name(path)
    _check_is_index(path)
    while True:
        generation = _generation(path)
        try:
            manifest = read_manifest(path)
            _check_files(path, manifest, hashed=manifest.n_bytes <= HASHED_UP_TO)
            index = Index(path, open_lexical=open_lexical, device=device)
            index.check_generation()
        except InputError:
            if _generation(path) == generation:
                raise
        else:
            if index.manifest == manifest:
                return index
        # It was replaced while we looked at it: look at the new one.


def verify(path: Path) -> Manifest:
    """Compare each file of an index with the manifest's size and SHA-256, however large.

    `mretrieve.index.verify` also looks whether the parts agree.

    Returns:
        The manifest.

    Raises:
        InputError: as `open_index`.
    """
    path = swap.plain_name(path)
    _check_is_index(path)
    manifest = read_manifest(path)
    check_manifest(path)
    _check_files(path, manifest, hashed=True)
    return manifest


def _check_is_index(path: Path) -> None:
    if swap.needs_recovery(path):
        _recover(path)
    if is_index(path) or (path / MANIFEST).is_file():  # a damaged manifest tells of itself when it is read
        return
    building = swap.building_folder(path)
    if is_build(path):
        raise InputError(f"{path} is a half-built index: run the same `mretrieve index` again to finish it.")
    if not path.exists() and (is_build(building) or is_index(building)):
        raise InputError(
            f"{path} is half-built (in {building}): run the same `mretrieve index` again to finish it."
        )
    near = _near_names(path)
    if not path.exists():
        raise InputError(f"There is no index {path}.{near} Build one with `mretrieve index SOURCE {path}`.")
    raise InputError(f"{path} is not an index: it has no {MANIFEST}.{near}")


def _recover(path: Path) -> None:
    """Bring back an index that is between two renames, by waiting for its builder or in its stead."""
    for _ in range(_BETWEEN_RENAMES_TRIES):
        try:
            with files.locked(path):
                swap.recover(path)
                return
        except OSError:
            return  # we may not write here; the next build will bring it back
        except InputError:  # a builder is at work, and will have finished in a moment
            time.sleep(_BETWEEN_RENAMES_SECONDS)
            if path.exists():
                return


def _near_names(path: Path) -> str:
    import difflib

    try:
        indexes = [entry.name for entry in path.absolute().parent.iterdir() if is_index(entry)]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.absolute().name, indexes, n=3)
    return f" Did you mean {' or '.join(str(path.with_name(name)) for name in near)}?" if near else ""


def _check_files(path: Path, manifest: Manifest, *, hashed: bool) -> None:
    mend = "Build the index again with --overwrite, or take the file from a copy of it."
    for name, entry in manifest.files.items():
        file = path / name
        try:
            n_bytes = file.stat().st_size
        except OSError as error:
            raise InputError(f"{file} is missing ({error.strerror}). {mend}") from error
        if n_bytes != entry.n_bytes:
            raise InputError(f"{file} has {n_bytes:,} bytes instead of {entry.n_bytes:,}. {mend}")
    for name, entry in manifest.files.items() if hashed else ():
        if files.sha256_of(path / name) != entry.sha256:
            raise InputError(f"{path / name} is damaged: its SHA-256 is not that of {MANIFEST}. {mend}")


def _mismatch(path: Path, name: str, found: int, expected: int) -> InputError:
    return InputError(
        f"{path / name} holds {found:,} documents, but {MANIFEST} says {expected:,}. "
        "Build the index again with --overwrite."
    )


def _generation(path: Path) -> tuple[int, int, int]:
    """Tells the index at a path from one that replaced it."""
    try:
        status = os.stat(path / MANIFEST)
    except OSError:
        return (0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_mtime_ns)


def _open_lucene(path: Path | Sequence[Path], lang: str) -> LexicalSearcher:
    from mretrieve.index.lucene import LexicalIndex

    return LexicalIndex(path, lang)
