"""Embeddings of one model kept on the disk, so that each text is encoded once, whatever asks for it.

A text is known by what the model reads: prompt and text. The embeddings lie in the user's cache as shards of
some thousand tokens, written as they are made; a benchmark that is stopped goes on where it was. They are
kept as float16: rounding moves a cosine by some 1e-5, a tenth of what bfloat16 layers do.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve.cache import cache_folder
from mretrieve.encode.encoder import Encoder
from mretrieve.files import atomic_file
from mretrieve.progress import OnProgress

Vectors = NDArray[np.float32]

SHARD_BYTES = 120_000
"""Text of one shard: some five seconds of e5-small on two cores, what a stop costs at most."""

_FORMAT = "1"  # part of the folder's name: another one, and all is encoded anew


def _ignore(stage: str, done: int, total: int | None) -> None:
    pass


class VectorStore:
    """Embeddings of one model, made when they are first asked for.

    Args:
        encoder: the model.
        folder: where embeddings are kept; by default one of the user's cache that is named after the model's
            fingerprint and the number type.
        on_progress: told of `encoding` and the number of texts done.
    """

    def __init__(
        self, encoder: Encoder, *, folder: Path | None = None, on_progress: OnProgress = _ignore
    ) -> None:
        self.encoder = encoder
        self.folder = folder or vectors_folder(encoder)
        self.seconds = 0.0
        self.on_progress = on_progress
        self._rows: dict[bytes, int] = {}
        self._parts: list[NDArray[np.float16]] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.glob("*.npz")):
            with np.load(path) as shard:
                self._add([key.tobytes() for key in shard["keys"]], shard["vectors"], float(shard["seconds"]))

    def __len__(self) -> int:
        """Number of texts whose embeddings are kept."""
        return len(self._rows)

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Embeddings of texts as queries: (n, dim) float32, unit length."""
        return self._get(texts, self.encoder.query_prefix, self.encoder.encode_queries)

    def documents(self, texts: Sequence[str]) -> Vectors:
        """Embeddings of texts as documents: (n, dim) float32, unit length."""
        return self._get(texts, self.encoder.document_prefix, self.encoder.encode_documents)

    def _get(self, texts: Sequence[str], prefix: str, encode: Callable[[Sequence[str]], Vectors]) -> Vectors:
        keys = [hashlib.sha256(f"{prefix}{text}".encode()).digest()[:16] for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        done = 0
        for batch in _shards(missing):
            start = time.perf_counter()
            vectors = encode([missing[key] for key in batch]).astype(np.float16)
            self._save(batch, vectors, time.perf_counter() - start)
            done += len(batch)
            self.on_progress("encoding", done, len(missing))
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        if not keys:
            return np.empty((0, self.encoder.dim), np.float32)
        chosen = self._parts[0][[self._rows[key] for key in keys]].astype(np.float32)
        chosen /= np.linalg.norm(chosen, axis=1, keepdims=True)
        return chosen

    def _save(self, keys: list[bytes], vectors: NDArray[np.float16], seconds: float) -> None:
        # Named after its texts: two processes at once write the same shard rather than over each other's.
        name = hashlib.sha256(b"".join(keys)).hexdigest()[:24]
        table = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 16)
        with atomic_file(self.folder / f"{name}.npz") as file:
            np.savez(file, keys=table, vectors=vectors, seconds=np.float64(seconds))
        self._add(keys, vectors, seconds)

    def _add(self, keys: list[bytes], vectors: NDArray[np.float16], seconds: float) -> None:
        # The rows of a text that stands in two shards are equal but for rounding; the last one counts.
        start = sum(len(part) for part in self._parts)
        self._rows.update(zip(keys, range(start, start + len(keys)), strict=True))
        self._parts.append(vectors)
        self.seconds += seconds


def vectors_folder(encoder: Encoder, kind: str = "vectors") -> Path:
    """Where the vectors of a model are kept that belong to a kind of benchmark."""
    dtype = encoder.prefer_bulk()  # one number type for all texts, however few are still to be encoded
    label = re.sub(r"[^\w.-]+", "-", Path(encoder.name).name)
    name = f"{label}-{encoder.fingerprint}-{encoder.device}-{dtype}-{_FORMAT}"
    return cache_folder() / "benchmarks" / kind / name


def _shards(texts: dict[bytes, str]) -> Iterator[list[bytes]]:
    """Keys of texts in order, as many at a time as hold `SHARD_BYTES`."""
    batch: list[bytes] = []
    size = 0
    for key, text in texts.items():
        batch.append(key)
        # Bytes, not letters: a token has four Latin letters, but one or two of others, of three bytes each.
        size += len(text.encode())
        if size >= SHARD_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
