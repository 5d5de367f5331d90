"""The torch backend for bulk encoding: all tokens of a batch in one flat sequence, nothing padded.

Linear layers see one long matrix, attention runs on groups of texts of equal length. On the CPU the
weights are packed once for oneDNN, which is what makes bfloat16 pay.
"""

import ctypes
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mretrieve.models.bert import read_bert

logger = logging.getLogger(__name__)

Linear = Callable[[Tensor], Tensor]

BATCH_ROWS = 2048
"""Rows that oneDNN lays the packed weights out for; other numbers of rows work as well."""


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class _Layer:
    qkv: Linear
    out: Linear
    attention_norm: _Norm
    inner: Linear
    outer: Linear
    output_norm: _Norm


class FlatBert:
    """A BERT-like encoder in float32 or bfloat16 on the CPU or a GPU."""

    def __init__(self, folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        weights = read_bert(folder)
        self.config = config = weights.config
        self._device, self._dtype = torch.device(device), dtype
        self._tensors = {name: torch.from_numpy(array) for name, array in weights.tensors.items()}
        if device == "cpu":
            _keep_freed_memory()
        self._words = self._get("embeddings.word_embeddings.weight")
        self._places = (
            self._get("embeddings.position_embeddings.weight")
            + self._get("embeddings.token_type_embeddings.weight")[0]
        )
        self._norm = self._layer_norm("embeddings.LayerNorm", torch.float32)
        self._layers = [self._layer(f"encoder.layer.{i}.") for i in range(config.layers)]
        self._tensors = {}

    def hidden_states(self, batch: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Last hidden states of all tokens, text after text.

        Args:
            batch: token ids of each text, (length,) int32. Texts of equal length should be neighbours.

        Returns:
            (n_tokens, hidden) float32.
        """
        lengths = [len(ids) for ids in batch]
        first = self.config.first_position
        ids = torch.from_numpy(np.concatenate(batch)).to(self._device, torch.long)
        places = torch.cat([torch.arange(first, first + n) for n in lengths]).to(self._device)
        with torch.inference_mode():
            x = self._norm(F.embedding(ids, self._words) + F.embedding(places, self._places))
            x = x.to(self._dtype)
            for layer in self._layers:
                context = self._attend(layer.qkv(x), lengths)
                x = layer.attention_norm(x + layer.out(context))
                x = layer.output_norm(x + layer.outer(layer.inner(x)))
            hidden: NDArray[np.float32] = x.float().cpu().numpy()
            return hidden

    def _attend(self, qkv: Tensor, lengths: Sequence[int]) -> Tensor:
        """Attention inside each text: (n_tokens, 3 * hidden) to (n_tokens, hidden)."""
        heads, hidden = self.config.heads, self.config.hidden
        context = qkv.new_empty(len(qkv), hidden)
        start = 0
        for length, group in groupby(lengths):
            n = len(list(group))
            rows = slice(start, start + n * length)
            q, k, v = qkv[rows].view(n, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(q, k, v)  # (n, heads, length, head)
            context[rows].view(n, length, heads, -1).copy_(attended.transpose(1, 2))
            start += n * length
        return context

    def _layer(self, prefix: str) -> _Layer:
        attention = f"{prefix}attention."
        qkv = [f"{attention}self.{part}" for part in ("query", "key", "value")]
        return _Layer(
            qkv=self._linear(qkv),
            out=self._linear([f"{attention}output.dense"]),
            attention_norm=self._layer_norm(f"{attention}output.LayerNorm", self._dtype),
            inner=self._linear([f"{prefix}intermediate.dense"], gelu=True),
            outer=self._linear([f"{prefix}output.dense"]),
            output_norm=self._layer_norm(f"{prefix}output.LayerNorm", self._dtype),
        )

    def _get(self, name: str) -> Tensor:
        return self._tensors[name].to(self._device)

    def _layer_norm(self, name: str, dtype: torch.dtype) -> _Norm:
        weight, bias = self._get(f"{name}.weight").to(dtype), self._get(f"{name}.bias").to(dtype)
        return _Norm(weight, bias, self.config.eps)

    def _linear(self, names: Sequence[str], *, gelu: bool = False) -> Linear:
        weight = torch.cat([self._get(f"{name}.weight") for name in names]).to(self._dtype)
        bias = torch.cat([self._get(f"{name}.bias") for name in names]).to(self._dtype)
        return linear(weight, bias, gelu=gelu)


def linear(weight: Tensor, bias: Tensor, *, gelu: bool) -> Linear:
    """`x W^T + b`, then GELU (erf) if asked, on weights packed for oneDNN where torch can.

    The packed form is a private part of torch, so it is tried and compared with the public one first.

    Args:
        weight: (n_out, n_in), on its device and in its final dtype.
        bias: (n_out,).
        gelu: apply GELU to the result.
    """

    def plain(x: Tensor) -> Tensor:
        y = F.linear(x, weight, bias)
        return F.gelu(y) if gelu else y

    if weight.device.type != "cpu":
        return plain
    try:
        fast = _pack(weight, bias, gelu=gelu)
        probe = torch.linspace(-1, 1, 3 * weight.shape[1]).view(3, -1).to(weight.dtype)
        torch.testing.assert_close(fast(probe).float(), plain(probe).float(), rtol=0.03, atol=0.03)
    except (AttributeError, RuntimeError, AssertionError, TypeError) as error:
        logger.warning("torch's packed linear layers are not usable here (%s); encoding is slower.", error)
        return plain
    return fast


def _pack(weight: Tensor, bias: Tensor, *, gelu: bool) -> Linear:
    ops = torch.ops.mkldnn
    packed = ops._reorder_linear_weight(weight.contiguous(), BATCH_ROWS)
    post, algorithm = ("gelu", "none") if gelu else ("none", "")

    def fast(x: Tensor) -> Tensor:
        y: Tensor = ops._linear_pointwise(x, packed, bias, post, [], algorithm)
        return y

    return fast


def _keep_freed_memory() -> None:
    """Have glibc keep freed buffers instead of returning each to the kernel.

    Every layer makes buffers of the same sizes; page-faulting them in anew costs a third of the time.
    """
    m_trim_threshold, m_mmap_threshold, size = -1, -3, 1 << 30
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_threshold, size)
        libc.mallopt(m_trim_threshold, size)
    except (OSError, AttributeError):
        logger.debug("No glibc: buffers are allocated as the system does it.")
