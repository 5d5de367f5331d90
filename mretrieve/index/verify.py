"""Look into all of an index: each file is what was written, and the parts hold the same documents."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index import open as opening
from mretrieve.index.documents import DocumentStore
from mretrieve.index.faiss import DenseIndex
from mretrieve.index.joined import JoinedDocuments
from mretrieve.index.manifest import DENSE, DOCUMENTS, LEXICAL, MANIFEST, Manifest, read_manifest
from mretrieve.index.open import Index

_ROWS_AT_ONCE = 65_536

CountLexical = Callable[[Path, str], int]
"""(folder, language) -> documents in its BM25 index."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at.

    Attributes:
        manifest: of the index.
        segments: how many there are; 1 in an index that was never changed.
        lexical: whether the BM25 indexes were opened; else only their files were compared.
    """

    manifest: Manifest
    segments: int
    lexical: bool


def verify_index(path: Path, *, count_lexical: CountLexical | None = None) -> Verified:
    """Compare each file with its checksum, then the documents, FAISS's vectors, and Lucene's documents.

    Args:
        path: folder of the index.
        count_lexical: how to count the documents of a BM25 index; by default with Lucene.

    Returns:
        What was looked at. Without Lucene or Java, its indexes are compared with their checksums only.

    Raises:
        InputError: there is no index, a file is missing or damaged, or two parts do not agree; the file
            is named.
        MissingDependencyError: FAISS is needed and not installed.
    """
    while True:
        opening.verify(path)
        index = opening.open_index(path)
        try:
            lexical = _check_parts(index, count_lexical or _count_lucene)
        except (InputError, OSError):
            if not index.is_replaced:
                raise
            continue  # by a change meanwhile: look at the new generation
        finally:
            index.close()
        return Verified(index.manifest, len(index.folders), lexical)


def _check_parts(index: Index, count_lexical: CountLexical) -> bool:
    has_lexical = True
    for folder in index.folders:
        manifest = read_manifest(folder)
        store = DocumentStore(folder / DOCUMENTS)
        _agree(folder / DOCUMENTS, len(store), folder / MANIFEST, manifest.documents)
        _check_languages(folder / DOCUMENTS, store.languages(), folder / MANIFEST, manifest)
        if manifest.dense is not None:
            _check_dense(folder, manifest)
        try:
            for lang, entry in manifest.languages.items():
                if has_lexical and entry.analyzer is not None:
                    lexical = folder / LEXICAL / lang
                    _agree(lexical, count_lexical(lexical, lang), folder / MANIFEST, entry.documents)
        except MissingDependencyError:
            has_lexical = False
    if isinstance(index.documents, JoinedDocuments):
        _check_languages(
            index.path / DOCUMENTS, index.documents.languages(), index.path / MANIFEST, index.manifest
        )
    _check_ids(index)
    return has_lexical


def _check_languages(documents: Path, found: dict[str, int], said_by: Path, manifest: Manifest) -> None:
    said = {lang: entry.documents for lang, entry in manifest.languages.items()}
    for lang in sorted(found.keys() | said.keys()):
        _agree(documents, found.get(lang, 0), said_by, said.get(lang, 0), f"documents in {lang}")


def _check_dense(folder: Path, manifest: Manifest) -> None:
    assert manifest.dense is not None and manifest.encoder is not None
    dense = DenseIndex.open(folder / DENSE, search=manifest.dense.search, device="cpu")
    _agree(folder / DENSE, len(dense), folder / MANIFEST, manifest.documents, "vectors")
    _agree(folder / DENSE, dense.dim, folder / MANIFEST, manifest.encoder.dim, "dimensions")


def _check_ids(index: Index) -> None:
    """Make sure that no two documents have the same id, in 8 bytes for each."""
    n_documents = len(index.documents)
    hashes = np.fromiter(map(hash, _ids(index)), np.int64, n_documents)
    hashes.sort()
    twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not twice:
        return
    counts = Counter(doc_id for doc_id in _ids(index) if hash(doc_id) in twice)
    repeated = [doc_id for doc_id, n_times in counts.items() if n_times > 1]
    if repeated:  # else two ids only had the same hash
        raise InputError(
            f"{index.path} holds the document {repeated[0]!r} {counts[repeated[0]]} times "
            f"({len(repeated):,} such ids). Build the index again from a source that has each id once."
        )


def _ids(index: Index) -> Iterator[str]:
    n_documents = len(index.documents)
    for start in range(0, n_documents, _ROWS_AT_ONCE):
        yield from index.documents.doc_ids(range(start, min(start + _ROWS_AT_ONCE, n_documents)))


def _agree(path: Path, found: int, said_by: Path, said: int, what: str = "documents") -> None:
    if found != said:
        raise InputError(
            f"{path} holds {found:,} {what}, but {said_by} says {said:,}. "
            "Build the index again with --overwrite, or take the folder from a copy of it."
        )


def _count_lucene(path: Path, lang: str) -> int:
    from mretrieve.index.lucene import LexicalIndex

    with LexicalIndex(path, lang) as lexical:
        return len(lexical)
