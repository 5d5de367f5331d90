"""Bidirectional self-attention over padded batches, or over packed ones that hold no padding.

Everything else in the encoder works token by token, so how a batch is laid out is known here alone.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.rotary import apply_rotary, rotary_tables


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

    Texts of equal length that are neighbours are computed together, so sort a batch by length.

    Args:
        lengths: tokens of each text, all above 0.
        device: where the tokens are.
    """

    def __init__(self, lengths: Sequence[int], *, device: torch.device | None = None) -> None:
        self.groups = [(length, len(list(group))) for length, group in groupby(lengths)]
        pieces = [torch.arange(length, device=device).repeat(n) for length, n in self.groups]
        self.positions = torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.long, device=device)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(n_tokens, heads, head_dim) each, to the same; a text sees itself only."""
        contexts, start = [], 0
        for length, n in self.groups:
            rows = slice(start, start + n * length)
            gq, gk, gv = (x[rows].view(n, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
            attended = F.scaled_dot_product_attention(gq, gk, gv)  # (n, heads, length, head_dim)
            contexts.append(attended.transpose(1, 2).flatten(0, 1))
            start += n * length
        return torch.cat(contexts) if contexts else torch.zeros_like(q)


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
        config = self.config
        qkv = self.Wqkv(x).view(*x.shape[:-1], 3, config.num_attention_heads, config.head_dim)
        q, k, v = qkv.unbind(dim=-3)
        if rotary is not None:
            cos, sin = rotary
            q = apply_rotary(q, cos, sin, interleaved=config.rotary_interleaved)
            k = apply_rotary(k, cos, sin, interleaved=config.rotary_interleaved)
        mixed: Tensor = self.out_proj(layout.attend(q, k, v).flatten(-2))
        return mixed


def rotary_for(layout: Layout, config: NomicConfig) -> tuple[Tensor, Tensor] | None:
    """The rotary tables of a batch, for all layers at once; None with absolute positions."""
    if config.position_embedding_type != "rotary":
        return None
    return rotary_tables(layout.positions, dim=config.rotary_dim, base=config.rotary_base)
