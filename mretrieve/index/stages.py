"""The stages of a build: each makes what is missing of its part, and leaves what is there."""

import io
import platform
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.index.documents import DocumentStore, merge_shards, shard_length, write_shard
from mretrieve.index.manifest import (
    DENSE,
    DOCUMENTS,
    LEXICAL,
    MANIFEST,
    BuiltBy,
    DenseEntry,
    FileEntry,
    LanguageEntry,
    Manifest,
)
from mretrieve.index.plan import BuildPlan
from mretrieve.types import Document

_MOST_UNFINISHED = 1  # BM25 indexes that Lucene still works on, beside the one that texts are read for

Encode = Callable[[list[str]], NDArray[np.float32]]
"""n texts -> (n, dim) float32 unit vectors."""


@runtime_checkable
class ShardEncoder(Protocol):
    """Encodes many shards at once, where `Encode` takes one after the other."""

    def encode_shards(self, shards: Iterable[tuple[int, list[str]]]) -> "EncodedShards":
        """Number and n texts of each shard -> its number and (n, dim) float32 unit vectors, in any order."""


EncodedShards = Generator[tuple[int, NDArray[np.float32]], None, None]

OnProgress = Callable[[str, int, int | None], None]
"""Told of a stage's name, how much is done, and of how much (None when unknown)."""


class TextWriter(Protocol):
    """Writes the BM25 index of one language."""

    def add(self, texts: Sequence[str]) -> None:
        """Add texts, whose rows follow those added before."""

    def close(self) -> None:
        """Finish the index and put it on the disk."""


@dataclass(frozen=True, slots=True)
class LexicalOptions:
    """How BM25 indexes are written.

    Attributes:
        open_writer: (folder to make, language) -> writer.
        analyzer: language -> name of its analyzer, for the manifest.
    """

    open_writer: Callable[[Path, str], TextWriter]
    analyzer: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Work:
    """A build under way: the folder it stands in, its plan, and whom to tell of progress."""

    folder: Path
    plan: BuildPlan
    on_progress: OnProgress

    def vectors(self, shard: int) -> Path:
        """The file of one shard's vectors."""
        return self.folder / "vectors" / f"{shard:06d}.npy"


def collect_documents(work: Work, documents: Iterable[Document]) -> DocumentStore:
    """Store the whole collection before anything is encoded, so that a broken line shows at once."""
    path = work.folder / DOCUMENTS
    files.make_folder(path.parent)
    if not path.exists():
        shards = list(_write_shards(work, documents, path.parent))
        if not shards:
            raise InputError("The source holds no documents, so there is nothing to index.")
        merge_shards(shards, path)
    for leftover in path.parent.iterdir():
        if leftover != path:
            leftover.unlink()
    store = DocumentStore(path)
    work.on_progress("documents", len(store), len(store))
    return store


def _write_shards(work: Work, documents: Iterable[Document], folder: Path) -> Iterator[Path]:
    n_read = 0
    source = iter(documents)
    while chunk := list(islice(source, work.plan.shard_size)):
        shard = folder / f"{n_read // work.plan.shard_size:06d}.arrow"
        # The last shard of an earlier start may be short because its source ended there by an error.
        if not shard.exists() or shard_length(shard) != len(chunk):
            write_shard(shard, chunk)
        n_read += len(chunk)
        work.on_progress("documents", n_read, None)
        yield shard


def encode_documents(work: Work, store: DocumentStore, encode: Encode | ShardEncoder) -> None:
    """Write the vectors of each shard that has none yet."""
    assert work.plan.encoder is not None
    files.make_folder(work.folder / "vectors")
    n_rows = {shard: _n_rows(store, shard) for shard in range(store.n_batches)}
    missing = [shard for shard in n_rows if not work.vectors(shard).exists()]
    n_done = len(store) - sum(n_rows[shard] for shard in missing)
    if n_done:
        work.on_progress("vectors", n_done, len(store))
    texts = ((shard, store.contents(shard)) for shard in missing)
    with closing(_encoded(encode, texts)) as encoded:  # at an error, too, workers are to stop at once
        for shard, vectors in encoded:
            _check_vectors(vectors, (n_rows[shard], work.plan.encoder.dim))
            packed = io.BytesIO()  # numpy's own writing to a file does not say when the disk is full
            np.save(packed, vectors)
            with files.atomic_file(work.vectors(shard)) as file:
                file.write(packed.getbuffer())
            n_done += n_rows[shard]
            work.on_progress("vectors", n_done, len(store))


def _n_rows(store: DocumentStore, shard: int) -> int:
    return min(store.batch_size, len(store) - shard * store.batch_size)


def _encoded(encode: Encode | ShardEncoder, shards: Iterator[tuple[int, list[str]]]) -> EncodedShards:
    if isinstance(encode, ShardEncoder):
        return encode.encode_shards(shards)
    return ((shard, encode(texts)) for shard, texts in shards)


def _check_vectors(vectors: NDArray[np.float32], shape: tuple[int, int]) -> None:
    if vectors.shape != shape or vectors.dtype != np.float32:
        raise ValueError(
            f"encode should return float32 {shape}, but returned {vectors.dtype} {vectors.shape}."
        )
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2):  # false also for NaN
        raise ValueError("encode should return unit vectors, but some have another length or are NaN.")


def build_dense_part(work: Work, store: DocumentStore) -> DenseEntry:
    """Build the FAISS index of all vectors."""
    from mretrieve.index.faiss import build_dense, dense_entry

    assert work.plan.encoder is not None
    path = work.folder / DENSE
    if path.exists():
        return dense_entry(work.plan.faiss, len(store), work.plan.encoder.dim)
    return build_dense(
        [work.vectors(shard) for shard in range(store.n_batches)],
        path,
        factory=work.plan.faiss,
        device=work.plan.device,
        on_rows=lambda n_rows: work.on_progress("dense", n_rows, len(store)),
    )


def build_lexical_part(work: Work, store: DocumentStore, lexical: LexicalOptions) -> None:
    """Build the BM25 index of each language that has none yet; one is finished while the next is begun."""
    files.make_folder(work.folder / LEXICAL)
    n_done = 0
    unfinished: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="mretrieve-lexical") as finishing:
        for lang, n_documents in store.languages().items():
            folder = work.folder / LEXICAL / lang
            if folder.exists():
                n_done += n_documents
                work.on_progress("lexical", n_done, len(store))
                continue
            partial = folder.with_name(folder.name + files.PARTIAL)
            files.remove(partial)
            writer = lexical.open_writer(partial, lang)
            try:
                for texts in store.contents_of(lang):
                    writer.add(texts)
                    work.on_progress("lexical", n_done := n_done + len(texts), len(store))
            except BaseException:
                writer.close()
                raise
            unfinished.append(finishing.submit(_finish, writer, partial, folder))
            while len(unfinished) > _MOST_UNFINISHED:
                unfinished.popleft().result()
        for one in unfinished:
            one.result()


def _finish(writer: TextWriter, partial: Path, folder: Path) -> None:
    writer.close()
    _settle(partial, folder)


def _settle(partial: Path, folder: Path) -> None:
    (partial / "write.lock").unlink(missing_ok=True)  # Lucene leaves its lock's empty file
    files.sync_tree(partial)
    partial.rename(folder)
    files.sync_folder(folder.parent)


def write_manifest(
    work: Work, store: DocumentStore, dense: DenseEntry | None, lexical: LexicalOptions | None
) -> None:
    """Write the manifest, which says that everything else is whole."""
    names = [DOCUMENTS]
    names += [DENSE] if dense else []
    names += [f"{LEXICAL}/{name}" for name in files.files_below(work.folder / LEXICAL)] if lexical else []
    entries = {}
    for n_done, name in enumerate(names, start=1):
        path = work.folder / name
        entries[name] = FileEntry(path.stat().st_size, files.sha256_of(path))
        work.on_progress("files", n_done, len(names))
    text = Manifest(
        documents=len(store),
        languages={
            lang: LanguageEntry(n_documents, lexical.analyzer(lang) if lexical else None)
            for lang, n_documents in store.languages().items()
        },
        encoder=work.plan.encoder,
        dense=dense,
        ranking=work.plan.ranking,
        files=entries,
        built=_built_by(dense),
        plan=work.plan.digest(),
    ).to_json()
    with files.atomic_file(work.folder / MANIFEST) as file:
        file.write(text.encode())


def _built_by(dense: DenseEntry | None) -> BuiltBy:
    faiss_version = None
    if dense is not None:
        from mretrieve.index.faiss import load_faiss

        faiss_version = str(load_faiss().__version__)
    return BuiltBy(
        mretrieve=metadata.version("mretrieve"),
        python=platform.python_version(),
        faiss=faiss_version,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
