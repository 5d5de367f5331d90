"""One model of a server, with two gears.

It starts in its first gear, ONNX Runtime and the tokenizer that opens at once: ready in a second and
small in memory. Once it has read `BULK_TOKENS` tokens, the second gear is loaded beside it in a thread of its
own (torch with packed weights, the fast tokenizer) and takes over: several times as fast, for more memory.
"""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.backends import Embed, architecture_of, load_backend, load_short_queries
from mretrieve.encode.choose import BULK_TOKENS, QUERY_TOKENS, Backend, Dtype, choose_backend
from mretrieve.encode.encoder import Encoder, batch_tokens, embed_in_batches
from mretrieve.encode.gears import GearChange
from mretrieve.encode.tokenize import FAST_START_CHARACTERS, Tokenizer, tokenizer_for
from mretrieve.models.weights import read_json
from mretrieve.serve.state import Kind

_NO_CUT = 1 << 30
_SIZES = ("matryoshka_dims", "matryoshka_dimensions")
# What models were trained with but do not write into their settings: their cards say it.
_SIZES_BY_NAME = (
    (re.compile(r"nomic-embed-text-v2-moe"), [512, 256]),
    (re.compile(r"nomic-embed-text-v1\.5"), [512, 256, 128, 64]),
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Texts as the model reads them.

    Attributes:
        ids: (length,) int32 of each text, with its prompt and special tokens, cut to the model's length.
        cut: how many texts were longer.
    """

    ids: list[NDArray[np.int32]]
    cut: int

    @property
    def total(self) -> int:
        """Tokens of all texts."""
        return sum(map(len, self.ids))


@dataclass(frozen=True, slots=True)
class _Gear:
    backend: Backend
    dtype: Dtype
    embed: Embed


class ServedModel:
    """One model under one name; safe to use from several threads.

    Args:
        name: what requests call it.
        encoder: says where the model is, how it wants to be used, and in which number type.
    """

    def __init__(self, name: str, encoder: Encoder) -> None:
        self.name = name
        self.encoder = encoder
        self.created = int(time.time())
        self._architecture = architecture_of(encoder.checkpoint)
        self._gear: _Gear | None = None
        self._short_queries: list[Embed] = []  # on one core, and on all
        self._tokenizer: Tokenizer | None = None  # of the second gear
        self._loading = threading.Lock()
        self.gears = GearChange(self._change_gear, name=name, daemon=True)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.encoder.dim

    @property
    def max_length(self) -> int:
        """Tokens that the model reads of a text, at most."""
        return self.encoder.checkpoint.max_length

    @property
    def is_loaded(self) -> bool:
        """Whether it can answer at once."""
        return self._gear is not None

    def dimensions(self) -> list[int]:
        """Lengths that its embeddings may be cut to, the longest first."""
        return [self.dim, *(size for size in trained_dimensions(self.encoder) if size < self.dim)]

    def load(self) -> None:
        """Load the first gear, and answer one query with it, after which all is warm.

        Raises:
            InputError: the files are damaged.
        """
        with self._loading:
            if self._gear is None:
                gear, ready = self._open(0), self.tokenize(["ready"], "query").ids
                gear.embed(ready)
                self._short_queries = load_short_queries(
                    self.encoder.checkpoint,
                    self._architecture,
                    device=self.encoder.device,
                    dtype=self.encoder.dtype,
                    threads=(1, 0),
                )
                for embed in self._short_queries:
                    embed(ready)
                self._gear = gear

    def tokenize(self, texts: Sequence[str], kind: Kind) -> Tokens:
        """Texts with the prompt of their kind as token ids."""
        prefix = self.encoder.query_prefix if kind == "query" else self.encoder.document_prefix
        prompted = [prefix + text for text in texts]
        tokenizer = self._tokenizer or tokenizer_for(self.encoder.checkpoint.folder, prompted)
        ids = tokenizer.encode_batch(prompted, max_length=_NO_CUT)
        long = [row for row, one in enumerate(ids) if len(one) > self.max_length]
        for row in long:
            ids[row] = tokenizer.encode_batch([prompted[row]], max_length=self.max_length)[0]
        return Tokens(ids, len(long))

    @property
    def batch_tokens(self) -> int:
        """Tokens that are computed together, at most."""
        return batch_tokens(self.encoder.device, "onnx" if self._gear is None else self._gear.backend)

    def embed(
        self, ids: Sequence[NDArray[np.int32]], *, queries: bool = False, alone: bool = False
    ) -> NDArray[np.float32]:
        """Embeddings of texts that `tokenize` gave.

        Args:
            ids: token ids of each text.
            queries: whether all of them are queries, which are quicker to embed when they are short.
            alone: whether they may have all cores, because nothing else is computed at the time.

        Returns:
            (n_texts, dim) float32, unit length.
        """
        if self._gear is None:
            self.load()
        gear = self._gear
        assert gear is not None
        if queries and self._short_queries and sum(map(len, ids)) <= QUERY_TOKENS:
            return embed_in_batches(self._short_queries[alone], ids, budget=QUERY_TOKENS)
        return embed_in_batches(gear.embed, ids, budget=self.batch_tokens)

    def _change_gear(self) -> None:
        tokenizer = tokenizer_for(self.encoder.checkpoint.folder, [" " * (FAST_START_CHARACTERS + 1)])
        gear = self._open(BULK_TOKENS)
        gear.embed(self.tokenize(["ready"], "query").ids)
        self._tokenizer, self._gear = tokenizer, gear

    def _open(self, n_tokens: int) -> _Gear:
        kind, encoder = self._architecture, self.encoder
        backend, dtype = choose_backend(
            n_tokens, device=encoder.device, dtype=encoder.dtype, ours=kind.ours, onnx=kind.onnx
        )
        now = self._gear
        if now is not None and (now.backend, now.dtype) == (backend, dtype):
            return now  # on a GPU, for example, there is one only
        embed = load_backend(
            encoder.checkpoint, kind, backend, device=encoder.device, dtype=dtype, quick_alone=True
        )
        return _Gear(backend, dtype, embed)


def trained_dimensions(encoder: Encoder) -> list[int]:
    """Shorter lengths that a model was trained for (Matryoshka; arXiv:2205.13147), longest first.

    Read from `matryoshka_dims` or `matryoshka_dimensions` in its `config_sentence_transformers.json` or
    `config.json`; for some official models known by their names.
    """
    checkpoint = encoder.checkpoint
    settings = read_json(checkpoint.folder / "config_sentence_transformers.json")
    for content in (settings, checkpoint.config):
        for name in _SIZES:
            if isinstance(sizes := content.get(name), list):
                return sorted({size for size in sizes if isinstance(size, int) and size > 0}, reverse=True)
    return next((sizes for pattern, sizes in _SIZES_BY_NAME if pattern.search(checkpoint.name)), [])
