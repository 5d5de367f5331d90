"""Write the manifest of a changed index, and put the files of its old generation beside the new ones."""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.index.documents import DocumentStore
from mretrieve.index.joined import JoinedDocuments
from mretrieve.index.live import LiveRows, write_deleted
from mretrieve.index.manifest import (
    DELETED,
    DENSE,
    DOCUMENTS,
    LEXICAL,
    MANIFEST,
    SEGMENTS,
    FileEntry,
    LanguageEntry,
    Manifest,
    SegmentEntry,
    read_manifest,
)
from mretrieve.index.open import Index
from mretrieve.index.stages import Work

FIRST = "000001"
"""The name of the first segment."""


def write_generation(work: Work, index: Index, deleted: NDArray[np.int64], *, added: str | None) -> None:
    """Put the old segments beside the new one, and write the manifest of them all.

    Args:
        work: the folder of the new generation, and its plan.
        index: the old generation.
        deleted: (n,) int64, ascending: all places of dead documents.
        added: name of the new segment, which is whole; None where there is none.
    """
    old, folder = index.manifest, work.folder
    files.make_folder(folder / SEGMENTS)
    segments = dict(old.segments)
    if segments:
        entries = _link(index.path, folder, {k: v for k, v in old.files.items() if k != DELETED})
    else:
        segments = {FIRST: SegmentEntry(old.documents)}
        entries = _link_as_segment(index.path, folder, old)
    if added is not None:
        manifest = read_manifest(folder / SEGMENTS / added)
        segments[added] = SegmentEntry(manifest.documents)
        entries |= {f"{SEGMENTS}/{added}/{name}": entry for name, entry in manifest.files.items()}
        entries |= _entry(folder, f"{SEGMENTS}/{added}/{MANIFEST}")
    if len(deleted):
        write_deleted(folder / DELETED, deleted)
        entries |= _entry(folder, DELETED)
    folders = [folder / SEGMENTS / name for name in segments]
    joined = JoinedDocuments([DocumentStore(one / DOCUMENTS) for one in folders], LiveRows(deleted))
    manifest = replace(
        old,
        documents=len(joined),
        languages=_languages(joined, [read_manifest(one) for one in folders]),
        files=entries,
        plan=work.plan.digest(),
        segments=segments,
        deleted=len(deleted),
    )
    _write_manifest(folder, manifest)


def _link_as_segment(old: Path, folder: Path, manifest: Manifest) -> dict[str, FileEntry]:
    """Make the first segment of an index that has none; what is beside its parts stays beside them."""
    inside = {name: entry for name, entry in manifest.files.items() if _is_part(name)}
    beside = {name: entry for name, entry in manifest.files.items() if name not in inside}
    segment = folder / SEGMENTS / FIRST
    entries = _link(old, folder, beside)
    files.make_folder(segment)
    linked = _link(old, segment, inside)
    _write_manifest(segment, replace(manifest, files=inside))
    entries |= {f"{SEGMENTS}/{FIRST}/{name}": entry for name, entry in linked.items()}
    return entries | _entry(folder, f"{SEGMENTS}/{FIRST}/{MANIFEST}")


def write_compacted(work: Work, index: Index, segment: Path) -> None:
    """Make the new segment the index itself.

    Args:
        work: the folder of the new generation, and its plan.
        index: the old generation.
        segment: folder of the new segment, below that of the new generation.
    """
    made, old = read_manifest(segment), index.manifest
    beside = {name: entry for name, entry in old.files.items() if not name.startswith(f"{SEGMENTS}/")}
    beside.pop(DELETED, None)
    entries = _link(index.path, work.folder, beside) | _link(segment, work.folder, made.files)
    _write_manifest(work.folder, replace(made, files=entries, plan=work.plan.digest()))


def _link(old: Path, new: Path, entries: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    """Give files a second name in another folder; they are copied where the file system has one name only."""
    for name in entries:
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(old / name, new / name)
        except FileExistsError:
            continue  # linked before this change was killed
        except OSError:
            _copy(old / name, new / name)
    return dict(entries)


def _copy(old: Path, new: Path) -> None:
    with open(old, "rb") as source, files.atomic_file(new) as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _is_part(name: str) -> bool:
    return name in (DOCUMENTS, DENSE) or name.startswith(f"{LEXICAL}/")


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest once everything that it names is on the disk."""
    files.sync_tree(folder)
    with files.atomic_file(folder / MANIFEST) as file:
        file.write(manifest.to_json().encode())


def _entry(folder: Path, name: str) -> dict[str, FileEntry]:
    path = folder / name
    return {name: FileEntry(path.stat().st_size, files.sha256_of(path))}


def _languages(joined: JoinedDocuments, manifests: Iterable[Manifest]) -> dict[str, LanguageEntry]:
    analyzers = {lang: entry.analyzer for one in manifests for lang, entry in one.languages.items()}
    return {lang: LanguageEntry(n, analyzers[lang]) for lang, n in joined.languages().items()}
