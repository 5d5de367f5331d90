"""Encoder: one interface to every embedding model."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.backends import Embed, architecture_of, load_backend, load_short_queries
from mretrieve.encode.checkpoint import Checkpoint, find_checkpoint
from mretrieve.encode.choose import (
    BULK_TOKENS,
    QUERY_TOKENS,
    Backend,
    Dtype,
    choose_backend,
    find_device,
)
from mretrieve.encode.gears import GearChange
from mretrieve.encode.tokenize import tokenizer_for
from mretrieve.errors import InputError

_BULK: tuple[Backend, Dtype] = ("torch", "bf16")

BATCH_TOKENS = {"onnx": 2048, "torch": 4096, "cuda": 32768}
"""Tokens per batch: on the CPU few enough that activations stay in its caches."""


class MadeWith(Protocol):
    """What an index says of the model that made its vectors."""

    @property
    def model(self) -> str:
        """Name, folder or hub id."""

    @property
    def query_prefix(self) -> str:
        """Put before each query."""

    @property
    def document_prefix(self) -> str:
        """Put before each document."""


class Encoder:
    """Texts to unit vectors.

    Models are loaded on the first call that needs them. Embeddings are float32 and L2-normalised
    whatever number type the layers compute in.

    Args:
        model: `e5-small`, a sentence-transformers folder, or a hub id, `@` a revision if wanted.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32`, `bf16` or `int8`; `auto` takes the fastest for the amount of text that
            stays within cosine 0.9999 of fp32, for short queries 0.999.
        query_prefix: put before each query, in place of the model's own prompt.
        document_prefix: put before each document, in place of the model's own prompt.
        gears: where few texts are embedded again and again, load the backend for many in the background once
            as much has been read, and use it from then on: faster, but the last digits change in between.

    Raises:
        InputError: the model, device or number type is unknown or not available.
    """

    def __init__(
        self,
        model: str = "e5-small",
        *,
        device: str = "auto",
        dtype: str = "auto",
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        gears: bool = False,
    ) -> None:
        self.checkpoint: Checkpoint = find_checkpoint(model)
        self.query_prefix = self.checkpoint.query_prefix if query_prefix is None else query_prefix
        self.document_prefix = self.checkpoint.document_prefix if document_prefix is None else document_prefix
        self.device = find_device(device)
        self.dtype = dtype
        self._architecture = architecture_of(self.checkpoint)
        self._backends: dict[tuple[Backend, Dtype], Embed] = {}
        self._expected_tokens = 0
        self._gears: GearChange | None = None
        self._choose(0)
        # In float32 there is little to gain.
        if gears and dtype == "auto" and self._choose(BULK_TOKENS) == _BULK:
            self._gears = GearChange(lambda: self._load(*_BULK), name=self.name)

    @classmethod
    def of_index(
        cls,
        made_with: MadeWith,
        *,
        model: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        gears: bool = False,
    ) -> Self:
        """The encoder whose vectors an index holds; whether its weights are the same is not looked at.

        Args:
            made_with: what the index says of it.
            model: its new place, where it has moved.
            device: as of the class.
            dtype: as of the class.
            gears: as of the class.

        Raises:
            InputError: as of the class.
        """
        return cls(
            model or made_with.model,
            device=device,
            dtype=dtype,
            query_prefix=made_with.query_prefix,
            document_prefix=made_with.document_prefix,
            gears=gears,
        )

    @property
    def name(self) -> str:
        """The model's name as it was asked for."""
        return self.checkpoint.name

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the weights, the tokenizer and the settings."""
        return self.checkpoint.fingerprint()

    @cached_property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._architecture.dim or int(self.encode_queries(["length"]).shape[1])

    def expect(self, n_tokens: int) -> Dtype:
        """Say how much text all coming calls hold, where they are parts of one job.

        The parts then use one backend and one number type, those that are right for the whole.

        Returns:
            The number type.
        """
        self._expected_tokens = n_tokens
        return self._choose(0)[1]

    def prefer_bulk(self) -> Dtype:
        """Take what is right for much text in all coming calls: `expect` for a job of unknown length.

        Returns:
            The number type.
        """
        return self.expect(BULK_TOKENS)

    def _choose(self, n_tokens: int) -> tuple[Backend, Dtype]:
        n_tokens = max(n_tokens, self._expected_tokens)
        kind = self._architecture
        if self._gears is not None and _BULK in self._backends:
            n_tokens = BULK_TOKENS
        return choose_backend(n_tokens, device=self.device, dtype=self.dtype, ours=kind.ours, onnx=kind.onnx)

    def encode_queries(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Embed queries, with the model's query prompt.

        Args:
            texts: one query each.
            on_progress: called with the number of texts that each finished batch held.

        Returns:
            (n, dim) float32, unit length.
        """
        return self._encode(texts, self.query_prefix, on_progress, query=True)

    def encode_documents(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Embed documents, with the model's document prompt. As `encode_queries` otherwise."""
        return self._encode(texts, self.document_prefix, on_progress)

    def count_tokens(self, texts: Sequence[str], *, query: bool = False) -> list[int]:
        """Tokens of each text with prompt and special tokens, before any cut."""
        prefix = self.query_prefix if query else self.document_prefix
        ids = self._tokenize([prefix + text for text in texts], max_length=1 << 30)
        return [len(one) for one in ids]

    def _encode(
        self,
        texts: Sequence[str],
        prefix: str,
        on_progress: Callable[[int], None] | None,
        *,
        query: bool = False,
    ) -> NDArray[np.float32]:
        if isinstance(texts, str):
            raise InputError("Give a list of texts; a single string would be read letter by letter.")
        if not texts:
            return np.empty((0, self.dim), np.float32)
        ids = self._tokenize([prefix + text for text in texts], max_length=self.checkpoint.max_length)
        n_tokens = sum(map(len, ids))
        is_short = query and max(n_tokens, self._expected_tokens) <= QUERY_TOKENS
        if is_short and self._short_queries:
            return embed_in_batches(self._short_queries[0], ids, budget=QUERY_TOKENS, on_progress=on_progress)
        backend, dtype = self._choose(n_tokens)
        embed = self._backend(backend, dtype)
        result = embed_in_batches(
            embed, ids, budget=batch_tokens(self.device, backend), on_progress=on_progress
        )
        if backend == "onnx" and self._gears is not None:
            self._gears.note(n_tokens)
        return result

    @cached_property
    def _short_queries(self) -> list[Embed]:
        return load_short_queries(self.checkpoint, self._architecture, device=self.device, dtype=self.dtype)

    def _tokenize(self, texts: Sequence[str], *, max_length: int) -> list[NDArray[np.int32]]:
        tokenizer = tokenizer_for(self.checkpoint.folder, texts)
        return tokenizer.encode_batch(texts, max_length=max_length)

    def _backend(self, backend: Backend, dtype: Dtype) -> Embed:
        if (backend, dtype) not in self._backends:
            self._load(backend, dtype)
        return self._backends[backend, dtype]

    def _load(self, backend: Backend, dtype: Dtype) -> None:
        self._backends[backend, dtype] = load_backend(
            self.checkpoint,
            self._architecture,
            backend,
            device=self.device,
            dtype=dtype,
            quick_alone=self._gears is not None,
        )


def batch_tokens(device: str, backend: Backend) -> int:
    """Tokens that are computed together, at most."""
    return BATCH_TOKENS["cuda" if device == "cuda" else backend]


def embed_in_batches(
    embed: Embed,
    ids: Sequence[NDArray[np.int32]],
    *,
    budget: int,
    on_progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Embed texts of any length, batch by batch.

    Args:
        embed: the backend.
        ids: (length,) int32 of each text, of which there is one at least.
        budget: tokens per batch, at most.
        on_progress: called with the number of texts that each finished batch held.

    Returns:
        (n, dim) float32, unit length.
    """
    result: NDArray[np.float32] | None = None
    for rows in batches_by_length(ids, budget=budget):
        embeddings = embed([ids[row] for row in rows])
        if result is None:
            result = np.empty((len(ids), embeddings.shape[1]), np.float32)
        result[rows] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        if on_progress is not None:
            on_progress(len(rows))
    assert result is not None
    return result


def batches_by_length(ids: Sequence[NDArray[np.int32]], *, budget: int) -> Iterator[list[int]]:
    """Rows in batches of at most `budget` tokens (or one text), longest first, equal lengths together.

    Longest first, so that the largest buffers are made once and too little memory shows at the start.
    """
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    batch: list[int] = []
    tokens = 0
    for row in order:
        if batch and tokens + len(ids[row]) > budget:
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += len(ids[row])
    if batch:
        yield batch
