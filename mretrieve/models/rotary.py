"""Rotary position embeddings: positions as rotations of query and key features.

Su et al., 2021 (arXiv:2104.09864).
"""

import torch
from torch import Tensor


def rotary_tables(positions: Tensor, *, dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles `position * base ** (-2 j / dim)`.

    Args:
        positions: (..., length), any integer type.
        dim: features that are rotated, even.
        base: wavelengths run from 2 pi to 2 pi * base.

    Returns:
        cos, sin: each (..., length, dim / 2) float32; the angles need its precision whatever the model has.
    """
    exponents = torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device) / dim
    angles = positions.float().unsqueeze(-1) * (1.0 / base**exponents)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool = False) -> Tensor:
    """Rotate the first `2 * cos.shape[-1]` features of each head, in float32.

    Args:
        x: (..., length, heads, head_dim).
        cos: (..., length, dim / 2).
        sin: as `cos`.
        interleaved: pairs are neighbours (GPT-J) instead of the two halves (NeoX, the official model).

    Returns:
        As `x`, in its dtype.
    """
    dim = 2 * cos.shape[-1]
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)  # one head's room
    turned = x[..., :dim].float()
    if interleaved:
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = turned.chunk(2, dim=-1)
    pair = (first * cos - second * sin, second * cos + first * sin)
    rotated = torch.stack(pair, dim=-1).flatten(-2) if interleaved else torch.cat(pair, dim=-1)
    if dim == x.shape[-1]:
        return rotated.to(x.dtype)
    return torch.cat([rotated.to(x.dtype), x[..., dim:]], dim=-1)
