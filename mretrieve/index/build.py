"""Build an index on disk, such that a kill at any moment loses no encoded document and no old index.

Everything is made in `my-index.building/` next to the place of the index: first all documents, then
their vectors, shard by shard, each shard whole and on the disk before the next; then FAISS and Lucene
from these. A build started again with the same plan goes on at the first thing that is missing. The last
act moves the folder into its place.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.index import swap
from mretrieve.index.manifest import DENSE, DOCUMENTS, LEXICAL, Manifest, is_index, read_manifest
from mretrieve.index.plan import NOTES, PLAN, BuildPlan, read_plan, write_plan
from mretrieve.index.stages import (
    Encode,
    LexicalOptions,
    OnProgress,
    ShardEncoder,
    Work,
    build_dense_part,
    build_lexical_part,
    collect_documents,
    encode_documents,
    write_manifest,
)
from mretrieve.types import Document

log = logging.getLogger(__name__)


def build(
    documents: Iterable[Document],
    path: Path,
    *,
    plan: BuildPlan,
    encode: Encode | ShardEncoder | None = None,
    lexical: LexicalOptions | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> Manifest:
    """Build an index of documents.

    Args:
        documents: the collection, the same on each start of the same build; `lang` is filled where it
            is known. It is not read when an earlier start has stored all of it.
        path: folder to make.
        plan: what decides the bytes of the index; a build that was stopped resumes under an equal one.
        encode: list of n texts (title and text of a shard) -> (n, dim) float32 unit vectors, or what
            does so for many shards at once; needed when `plan.encoder` is set.
        lexical: how to write BM25 indexes; needed when `plan.lexical` is true.
        overwrite: replace an index at `path`, in one act when the new one is finished.
        on_progress: called with a stage ("documents", "vectors", "dense", "lexical", "files"), how much
            of it is done, and of how much (None when unknown).

    Returns:
        The manifest of the new index.

    Raises:
        InputError: `path` may not be replaced or written, the disk is full, another process builds the
            same index, FAISS cannot make the plan's factory, or there are no documents.
        MissingDependencyError: FAISS or Lucene is needed and not installed.
    """
    if (plan.encoder is None) != (encode is None) or plan.lexical != (lexical is not None):
        raise ValueError("encode and lexical should be given exactly when the plan has such a part.")
    target = swap.plain_name(path)
    swap.check_target(target, overwrite=overwrite)
    if plan.encoder is not None:
        from mretrieve.index.faiss import check_factory

        check_factory(plan.faiss, plan.encoder.dim)
    with files.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(target):
            if swap.recover(target) and overwrite and read_manifest(target).plan == plan.digest():
                return read_manifest(target)  # the last start was killed when all but cleaning up was done
            swap.check_target(target, overwrite=overwrite)
            work = Work(swap.building_folder(target), plan, on_progress or _silent)
            if not is_finished(work):
                _make_parts(work, documents, encode, lexical)
            _remove_leftovers(work.folder)
            swap.place(work.folder, target, overwrite=overwrite)
            return read_manifest(target)


def _make_parts(
    work: Work,
    documents: Iterable[Document],
    encode: Encode | ShardEncoder | None,
    lexical: LexicalOptions | None,
) -> None:
    try:
        store = collect_documents(work, documents)
    except InputError:
        if not os.listdir((work.folder / DOCUMENTS).parent):
            swap.discard(work.folder)  # nothing was read, so there is nothing to go on with
        raise
    dense = None
    if encode is not None:
        encode_documents(work, store, encode)
        dense = build_dense_part(work, store)
    if lexical is not None:
        build_lexical_part(work, store, lexical)
    write_manifest(work, store, dense, lexical)


def is_finished(work: Work) -> bool:
    """Make the building folder ready for the plan; true when it holds the finished index already."""
    folder, wanted = work.folder, work.plan
    if swap.is_discarded(folder):
        swap.discard(folder)
    elif is_index(folder):
        if read_manifest(folder).plan == wanted.digest():
            return True
        _warn_afresh(folder)
        swap.discard(folder)
    elif (found := read_plan(folder)) is not None:
        if found == wanted.to_dict():
            log.info("Going on with the build in %s.", folder)
            return False
        if wanted.shares_shards_with(found):
            _remove_products(folder)
        else:
            _warn_afresh(folder)
            swap.discard(folder)
    elif os.path.lexists(folder) and (not folder.is_dir() or set(os.listdir(folder)) - _BEFORE_PLAN):
        raise InputError(
            f"{folder} is in the way: it was not made by mretrieve, so it is left alone. "
            "Move it away, or choose another name for the index."
        )
    files.make_folder(folder)
    write_plan(folder, wanted)
    return False


_BEFORE_PLAN = {PLAN + files.PARTIAL, swap.DISCARDED}


def _warn_afresh(folder: Path) -> None:
    log.warning(
        "%s holds a build of another source, model or shard size: it is deleted and started afresh.", folder
    )


def _remove_products(folder: Path) -> None:
    """Remove what is made from the shards, when only the wish for FAISS or Lucene has changed."""
    log.info("The documents and vectors in %s are kept; FAISS and Lucene are built anew.", folder)
    for name in (DENSE, LEXICAL):
        files.remove(folder / name)


def _remove_leftovers(folder: Path) -> None:
    """Remove from a finished index what was only needed to build it."""
    files.remove(folder / "vectors")
    files.remove(folder / NOTES)
    files.remove(folder / PLAN)
    files.sync_folder(folder)


def _silent(stage: str, done: int, total: int | None) -> None:
    pass
