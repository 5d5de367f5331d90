"""Attention inside each text of a flat sequence, fast on CPUs.

torch's fused kernel is made for long texts; in bfloat16 on a CPU it reaches a sixth of the matrix peak.
Whole matrices of scores are small at retrieval's lengths, so there a few texts at a time pass through two
batched products and a softmax, which is one and a half to two times as fast.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from mretrieve.models.packed import few_sizes
from mretrieve.models.rotary import rotary_tables

CHUNK_SCORES = 1 << 20
"""Scores that one chunk of texts may have, so that they stay in a core's cache."""

SHORT_TOKENS = 64
"""Up to this length the fused kernel is quicker for a single text, for most queries twice as quick."""

_TILE = 16


@dataclass(frozen=True)
class Run:
    """Neighbouring texts of equal length; `first_text` counts from the start of their chunk."""

    first_row: int
    first_text: int
    n_texts: int
    length: int

    @property
    def rows(self) -> slice:
        """Their tokens in the flat sequence."""
        return slice(self.first_row, self.first_row + self.n_texts * self.length)

    @property
    def texts(self) -> slice:
        """Their places in the chunk."""
        return slice(self.first_text, self.first_text + self.n_texts)


@dataclass(frozen=True)
class Chunk:
    """Texts that are computed together, each filled up to `length`, and texts of which nothing is used.

    Attributes:
        runs: the texts.
        n_texts: with those that fill up.
        length: of each.
    """

    runs: tuple[Run, ...]
    n_texts: int
    length: int


def plan_chunks(lengths: Sequence[int], *, heads: int) -> list[Chunk]:
    """Put neighbouring texts of nearly equal length together.

    Args:
        lengths: tokens of each text of a flat sequence.
        heads: of the attention.
    """
    chunks: list[Chunk] = []
    runs: list[Run] = []
    n_texts = longest = 0
    for run in _runs(lengths, heads):
        padded = _padded(max(longest, run.length))
        fits = heads * _filled_up(n_texts + run.n_texts) * padded**2 <= CHUNK_SCORES
        # Filling up costs in proportion to the length that is filled up, so the lengths must be close.
        close = all(padded - one.length <= max(_TILE, padded // 8) for one in (*runs, run))
        if runs and not (fits and close):
            chunks.append(Chunk(tuple(runs), _filled_up(n_texts), _padded(longest)))
            runs, n_texts, longest = [], 0, 0
        runs.append(Run(run.first_row, n_texts, run.n_texts, run.length))
        n_texts, longest = n_texts + run.n_texts, max(longest, run.length)
    if runs:
        chunks.append(Chunk(tuple(runs), _filled_up(n_texts), _padded(longest)))
    return chunks


def _runs(lengths: Sequence[int], heads: int) -> Iterator[Run]:
    """Equal lengths together, as many as one chunk holds."""
    row = 0
    for length, group in groupby(lengths):
        left = len(list(group))
        most = max(1, CHUNK_SCORES // (heads * _padded(length) ** 2))
        while _filled_up(most) > most:
            most -= 1
        while left:
            n = min(left, most)
            yield Run(row, 0, n, length)
            row, left = row + n * length, left - n


def _padded(length: int) -> int:
    """A length that oneDNN multiplies fast, and of which there are few."""
    return few_sizes(length, bits=10, step=_TILE if length > _TILE else 4)


def _filled_up(n_texts: int) -> int:
    return few_sizes(n_texts, bits=3)


class Rotary:
    """Rotary positions as complex multiplication: features 2j and 2j + 1 of a head are one number.

    Args:
        n_positions: greatest length of a text.
        dim: features of each head that are rotated, even.
        base: see `rotary_tables`.
    """

    def __init__(self, n_positions: int, *, dim: int, base: float, device: torch.device) -> None:
        cos, sin = rotary_tables(torch.arange(n_positions, device=device), dim=dim, base=base)
        self.dim = dim
        self._turns = torch.complex(cos, sin).unsqueeze(1)  # (n_positions, 1, dim / 2)

    def turn(self, x: Tensor) -> Tensor:
        """(..., length, heads, dim) of any number type, texts from position 0, to float32."""
        pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
        turned: Tensor = torch.view_as_real(pairs * self._turns[: x.shape[-3]]).flatten(-2)
        return turned


@dataclass(frozen=True)
class FlatAttention:
    """Bidirectional attention.

    Args:
        heads: number of them; the rows of a token are queries, keys, values, heads within each.
        rotary: positions, if they are not in the embeddings.
        quick_alone: a single short text takes a quicker way, in which its last digits are others than in a
            batch; for those without rotary positions.
    """

    heads: int
    rotary: Rotary | None = None
    quick_alone: bool = False

    def plan(self, lengths: Sequence[int], *, batched: bool) -> list[Chunk]:
        """How `__call__` is to go through a batch; made once for all layers.

        Args:
            lengths: tokens of each text.
            batched: by batched products, else by torch's fused kernel, which takes equal lengths only.
        """
        if batched:
            return plan_chunks(lengths, heads=self.heads)
        counts = [(length, len(list(group))) for length, group in groupby(lengths)]
        starts = [0]
        for length, n in counts:
            starts.append(starts[-1] + length * n)
        runs = [Run(start, 0, n, length) for start, (length, n) in zip(starts, counts, strict=False)]
        return [Chunk((run,), run.n_texts, run.length) for run in runs]

    def __call__(self, qkv: Tensor, chunks: Sequence[Chunk], *, batched: bool) -> Tensor:
        """(n_rows, 3 * hidden) to (n_rows, hidden), by a plan that was made for it.

        Rows that are in no text may follow the texts; 0 comes out for them.
        """
        if self.quick_alone and len(qkv) <= SHORT_TOKENS and len(chunks) == chunks[0].n_texts == 1:
            return self._alone(qkv)
        context = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        context[chunks[-1].runs[-1].rows.stop :] = 0
        for chunk in chunks:
            q, k, v = self._gather(qkv, chunk)  # (n_texts, heads, length, head_dim) each
            attended = _products(q, k, v, chunk) if batched else F.scaled_dot_product_attention(q, k, v)
            for run in chunk.runs:
                part = attended[run.texts, :, : run.length].transpose(1, 2)
                context[run.rows].view(part.shape).copy_(part)
        return context

    def _alone(self, qkv: Tensor) -> Tensor:
        """One short text, without a copy."""
        q, k, v = qkv.view(1, len(qkv), 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(qkv), -1)

    def _gather(self, qkv: Tensor, chunk: Chunk) -> Tensor:
        """A chunk's (3, n_texts, heads, length, head_dim), contiguous."""
        head_dim = qkv.shape[1] // 3 // self.heads
        gathered = qkv.new_empty(3, chunk.n_texts, self.heads, chunk.length, head_dim)
        for run in chunk.runs:
            part = qkv[run.rows].view(run.n_texts, run.length, 3, self.heads, head_dim)
            target = gathered[:, run.texts, :, : run.length].permute(1, 3, 0, 2, 4)  # as `part`
            if self.rotary is None:
                target.copy_(part)
            else:
                self._turn(part, target)
            # What is filled up must be finite, for 0 times it is added. The scores see to queries and keys.
            gathered[2, run.texts, :, run.length :] = 0
        return gathered

    def _turn(self, part: Tensor, target: Tensor) -> None:
        assert self.rotary is not None
        dim = self.rotary.dim
        turning = part[:, :, :2, :, :dim]  # (n_texts, length, 2, heads, dim)
        target[:, :, :2, :, :dim] = self.rotary.turn(turning.flatten(2, 3)).view(turning.shape)
        target[:, :, :2, :, dim:] = part[:, :, :2, :, dim:]
        target[:, :, 2] = part[:, :, 2]


def _products(q: Tensor, k: Tensor, v: Tensor, chunk: Chunk) -> Tensor:
    """Attention by two batched products; filled-up keys get no weight."""
    shape = q.shape
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    unused = q.new_empty(1, 1, 1)  # with beta 0 it is never read
    scores = torch.baddbmm(unused, q, k.transpose(1, 2), beta=0, alpha=1 / math.sqrt(shape[-1]))
    by_text = scores.view(*shape[:2], chunk.length, chunk.length)
    for run in chunk.runs:
        by_text[run.texts, ..., run.length :] = -torch.inf
    return torch.bmm(scores.softmax(dim=-1), v).view(shape)
