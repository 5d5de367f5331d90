"""Bidirectional self-attention over padded batches, or over packed ones that hold no padding.

Everything else in the encoder works token by token, so how a batch is laid out is known here alone.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.grouped import compute_capability
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.rotary import apply_rotary, rotary_tables

# torch 2.9 does not have it. It is imported where used, which loads the compiler and takes a second.
_HAS_VARLEN = find_spec("torch.nn.attention.varlen") is not None


class Layout(Protocol):
    """How the tokens of a batch lie, and which of them may see each other."""

    positions: Tensor
    """Of each token in its text, from 0."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Scaled dot-product attention: (..., heads, head_dim) each, to the same."""


class PaddedLayout:
    """Tokens as (batch, length), texts side by side with padding.

    Args:
        mask: (batch, length), true or non-zero on real tokens; None where all are real, which leaves
            attention its fastest kernels.
        shape: (batch, length).
        device: where the tokens are.
    """

    def __init__(self, mask: Tensor | None, *, shape: Sequence[int], device: torch.device) -> None:
        n, length = shape
        self.positions = torch.arange(length, device=device).expand(n, length)
        self._visible = None
        if mask is not None:
            real = mask.bool()
            # A text without any token would divide by zero: let it see its padding, which nobody reads.
            visible = real | ~real.any(dim=1, keepdim=True)
            self._visible = visible[:, None, None, :]  # (batch, 1, 1, length)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(batch, length, heads, head_dim) each, to the same; padding is seen by nobody."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self._visible).transpose(1, 2)


class PackedLayout:
    """Tokens as (n_tokens,), text after text without padding.

    How texts are kept apart depends on the device: one kernel of variable-length attention on a GPU; on a
    CPU one call for each group of neighbours of equal length, so sort a batch by length there. Lengths are
    known on the host, so that none of these ever asks the device.

    Args:
        lengths: tokens of each text, all above 0.
        device: where the tokens are.
    """

    def __init__(self, lengths: Sequence[int], *, device: torch.device | None = None) -> None:
        self.groups = [(length, len(list(group))) for length, group in groupby(lengths)]
        self.longest = max(lengths, default=0)
        sizes = torch.tensor(lengths, dtype=torch.long)
        ends, n_tokens = sizes.cumsum(0), sum(lengths)
        starts = (ends - sizes).repeat_interleave(sizes, output_size=n_tokens)
        self.positions = (torch.arange(n_tokens) - starts).to(device)
        self.bounds = F.pad(ends, (1, 0)).to(device, torch.int32)  # (n_texts + 1,)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(n_tokens, heads, head_dim) each, to the same; a text sees itself only."""
        if has_varlen_kernel(q):
            return self.attend_varlen(q, k, v)
        return self.attend_groups(q, k, v) if q.device.type == "cpu" else self.attend_padded(q, k, v)

    def attend_varlen(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `attend`, in one flash attention kernel; where `has_varlen_kernel` says so."""
        from torch.nn.attention.varlen import varlen_attn

        bounds, longest = self.bounds, self.longest
        attended = varlen_attn(q, k, v, bounds, bounds, longest, longest)
        assert isinstance(attended, Tensor)
        return attended

    def attend_padded(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `attend`, over a padded copy, for dtypes that variable-length attention does not take."""
        sizes = self.bounds.diff().unsqueeze(1)  # (n_texts, 1)
        visible = torch.arange(self.longest, device=q.device) < sizes  # (n_texts, longest)
        text = torch.repeat_interleave(
            torch.arange(len(sizes), device=q.device), sizes.squeeze(1), output_size=len(q)
        )
        rows = text * self.longest + self.positions  # of each token in the padded copy

        def padded(x: Tensor) -> Tensor:
            copy = x.new_zeros(len(sizes) * self.longest, *x.shape[1:]).index_copy(0, rows, x)
            return copy.view(len(sizes), self.longest, *x.shape[1:]).transpose(1, 2)

        mask = visible.view(len(sizes), 1, 1, self.longest)
        attended = F.scaled_dot_product_attention(padded(q), padded(k), padded(v), attn_mask=mask)
        return attended.transpose(1, 2).flatten(0, 1).index_select(0, rows)

    def attend_groups(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `attend`, one group of equal length after the other."""
        contexts, start = [], 0
        for length, n in self.groups:
            rows = slice(start, start + n * length)
            gq, gk, gv = (x[rows].view(n, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
            attended = F.scaled_dot_product_attention(gq, gk, gv)  # (n, heads, length, head_dim)
            contexts.append(attended.transpose(1, 2).flatten(0, 1))
            start += n * length
        return torch.cat(contexts) if contexts else torch.zeros_like(q)


def has_varlen_kernel(q: Tensor) -> bool:
    """Whether variable-length flash attention runs on (n_tokens, heads, head_dim) queries like these.

    It came with torch 2.10; the kernel wants compute capability 8.0, half precision, and heads of at most
    256 features, a multiple of 8.
    """
    if q.device.type != "cuda" or q.dtype not in (torch.bfloat16, torch.float16) or not len(q):
        return False
    fits = q.shape[-1] % 8 == 0 and q.shape[-1] <= 256
    return _HAS_VARLEN and fits and compute_capability(q.device) >= (8, 0)


class Attention(nn.Module):
    """Self-attention, with rotary positions if the config has them.

    Weights as in the official file: the rows of `Wqkv` are queries, keys, values, heads within each.
    """

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        hidden, bias = config.hidden_size, config.attention_bias
        self.config = config
        self.Wqkv = nn.Linear(hidden, 3 * hidden, bias=bias)
        self.out_proj = nn.Linear(hidden, hidden, bias=bias)

    def forward(self, x: Tensor, layout: Layout, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """Mix each text's tokens.

        Args:
            x: (..., hidden): (batch, length, hidden) or (n_tokens, hidden), as the layout says.
            layout: who sees whom.
            rotary: from `rotary_for`; None with absolute positions.

        Returns:
            As `x`.
        """
        config, heads = self.config, self.config.num_attention_heads
        qkv = self.Wqkv(x).view(*x.shape[:-1], 3 * heads, config.head_dim)
        qk, v = qkv.split([2 * heads, heads], dim=-2)
        if rotary is not None:
            # Queries and keys turn alike, so they turn together: half as many kernels.
            qk = apply_rotary(qk, *rotary, interleaved=config.rotary_interleaved)
        q, k = qk.chunk(2, dim=-2)
        mixed: Tensor = self.out_proj(layout.attend(q, k, v).flatten(-2))
        return mixed


def rotary_for(layout: Layout, config: NomicConfig) -> tuple[Tensor, Tensor] | None:
    """The rotary tables of a batch, for all layers at once; None with absolute positions."""
    if config.position_embedding_type != "rotary":
        return None
    return rotary_tables(layout.positions, dim=config.rotary_dim, base=config.rotary_base)
