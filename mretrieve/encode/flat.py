"""The torch backend for bulk encoding: all tokens of a batch in one flat sequence, nothing padded.

Linear layers see one long matrix, attention runs on small groups of texts. On the CPU the weights are packed
once for oneDNN, which is what makes bfloat16 pay.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mretrieve.encode.flat_attention import SHORT_TOKENS, FlatAttention
from mretrieve.errors import InputError
from mretrieve.models.bert import read_bert
from mretrieve.models.packed import Linear, few_sizes, linear, packing


@dataclass(frozen=True)
class Norm:
    """Layer normalisation."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """(n, hidden) to the same."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class FlatLayer:
    """One post-norm layer. `mlp` adds its result to what it gets."""

    qkv: Linear
    out: Linear
    attention_norm: Norm
    mlp: Callable[[Tensor], Tensor]
    output_norm: Norm


class FlatEncoder(ABC):
    """An encoder over flat sequences, in float32 or bfloat16; subclasses say where its weights are.

    Args:
        tensors: read the checkpoint's tensors by name; each is read once, where it is needed.
        device: where to compute.
        dtype: of the layers; embeddings, and the norm right after them, are float32.
        eps: of the norms.
        max_length: tokens that a text may have.
    """

    layers: Sequence[FlatLayer]
    attention: FlatAttention

    def __init__(
        self,
        tensors: Mapping[str, Callable[[], Tensor]],
        *,
        device: str,
        dtype: torch.dtype,
        eps: float,
        max_length: int,
    ) -> None:
        self.device, self.dtype, self._eps, self._max_length = torch.device(device), dtype, eps, max_length
        self._tensors = tensors
        # The fused kernel keeps scores in float32, and MKL is slow at small float32 products.
        self._batched = device == "cpu" and dtype == torch.bfloat16
        with packing() if device == "cpu" else nullcontext():
            self.build()
        self._tensors = {}

    @abstractmethod
    def build(self) -> None:
        """Take the tensors: set `attention`, `layers`, and what `embed` needs."""

    @abstractmethod
    def embed(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Normed embeddings: (n_tokens,) int64 to (n_tokens, hidden) float32."""

    def hidden_states(self, batch: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Last hidden states of all tokens, text after text.

        Args:
            batch: token ids of each text, (length,) int32. Texts of like length should be neighbours.

        Returns:
            (n_tokens, hidden) float32.

        Raises:
            InputError: a text is longer than the model's positions allow.
        """
        lengths = [len(ids) for ids in batch]
        if max(lengths) > self._max_length:
            raise InputError(
                f"A text of {max(lengths)} tokens is longer than the {self._max_length} that this model's "
                "positions allow: cut it."
            )
        n_tokens = sum(lengths)
        n_unused = self._n_rows(n_tokens) - n_tokens
        unused = np.zeros(n_unused, np.int32)
        ids = torch.from_numpy(np.concatenate([*batch, unused])).to(self.device, torch.long)
        chunks = self.attention.plan(lengths, batched=self._batched)
        with torch.inference_mode():
            x = self.embed(ids, lengths + [1] * n_unused).to(self.dtype)
            for layer in self.layers:
                context = self.attention(layer.qkv(x), chunks, batched=self._batched)
                x = layer.attention_norm(layer.out(context, x))
                x = layer.output_norm(layer.mlp(x))
            hidden: NDArray[np.float32] = x[:n_tokens].float().cpu().numpy()
            return hidden

    def _n_rows(self, n_tokens: int) -> int:
        """Rows that a batch has on this device."""
        if self.device.type != "cpu" or n_tokens <= SHORT_TOKENS:
            return n_tokens
        return few_sizes(n_tokens, bits=5, step=32)

    def stored(self, name: str) -> Tensor:
        """A tensor on the device, in the dtype of the file."""
        return self._tensors[name]().to(self.device)

    def take(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor on the device, in the layers' dtype or another."""
        return self.stored(name).to(dtype or self.dtype)

    def norm(self, name: str, dtype: torch.dtype | None = None) -> Norm:
        """A norm by the name of its tensors."""
        return Norm(self.take(f"{name}.weight", dtype), self.take(f"{name}.bias", dtype), self._eps)

    def mlp(self, inner: str, outer: str, act: str) -> Callable[[Tensor], Tensor]:
        """A feed-forward network by the names of its two linear layers, with the residual around it."""
        up, down = self.linear(inner, act=act), self.linear(outer)
        return lambda x: down(up(x), x)

    def linear(self, *names: str, act: str | None = None) -> Linear:
        """A linear layer by name, or several over the same input as one."""
        weight = torch.cat([self.take(f"{name}.weight") for name in names])
        biases = [self.take(f"{name}.bias") for name in names if f"{name}.bias" in self._tensors]
        return linear(weight, torch.cat(biases) if biases else None, act=act)


def positions_of(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Positions of all tokens of a flat sequence, each text's from 0: (n_tokens,) int64."""
    return torch.cat([torch.arange(n) for n in lengths]).to(device)


class FlatBert(FlatEncoder):
    """A BERT-like encoder (BERT, RoBERTa, XLM-R, CamemBERT)."""

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        quick_alone: bool = False,
    ) -> None:
        weights = read_bert(folder)
        self.config, self._quick_alone = weights.config, quick_alone
        n_positions = len(weights.tensors["embeddings.position_embeddings.weight"])
        super().__init__(
            {name: partial(torch.from_numpy, array) for name, array in weights.tensors.items()},
            device=device,
            dtype=dtype,
            eps=self.config.eps,
            max_length=n_positions - self.config.first_position,
        )

    def build(self) -> None:
        """Take the tensors by the names of transformers' BertModel."""
        types = self.take("embeddings.token_type_embeddings.weight", torch.float32)
        places = self.take("embeddings.position_embeddings.weight", torch.float32)
        self._words = self.take("embeddings.word_embeddings.weight", torch.float32)
        self._places = places[self.config.first_position :] + types[0]
        self._norm = self.norm("embeddings.LayerNorm", torch.float32)
        self.attention = FlatAttention(self.config.heads, quick_alone=self._quick_alone)
        self.layers = [self._layer(f"encoder.layer.{i}.") for i in range(self.config.layers)]

    def embed(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Words, positions and the first token type, normed."""
        places = F.embedding(positions_of(lengths, self.device), self._places)
        return self._norm(F.embedding(ids, self._words) + places)

    def _layer(self, prefix: str) -> FlatLayer:
        attention = f"{prefix}attention."
        return FlatLayer(
            qkv=self.linear(*(f"{attention}self.{part}" for part in ("query", "key", "value"))),
            out=self.linear(f"{attention}output.dense"),
            attention_norm=self.norm(f"{attention}output.LayerNorm"),
            mlp=self.mlp(f"{prefix}intermediate.dense", f"{prefix}output.dense", "gelu"),
            output_norm=self.norm(f"{prefix}output.LayerNorm"),
        )
