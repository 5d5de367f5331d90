"""Linear and expert layers whose weights oneDNN has laid out once for this CPU.

That is what makes bfloat16 pay there, and float32 nearly twice as fast on CPUs that Intel's MKL does not
favour. The packed form is a private part of torch, so each layer is tried and compared with the public
form first; where the two disagree, or the private part is gone, the public one is used.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mretrieve.memory import keep_freed_buffers, return_large_buffers
from mretrieve.models.routers import Router

logger = logging.getLogger(__name__)

BATCH_ROWS = 2048
"""Rows that oneDNN lays the packed weights out for; other numbers of rows work as well."""

# Our name of an activation -> oneDNN's, and its variant.
_POST_OPS = {
    None: ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}


class Linear(Protocol):
    """A linear layer, with what comes right after it."""

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(n, n_in) to (n, n_out), plus `residual` (n, n_out) if there is one."""


def linear(weight: Tensor, bias: Tensor | None, *, act: str | None = None) -> Linear:
    """`x W^T + b`, then an activation, on packed weights where torch can.

    On the CPU nothing of `weight` is kept.

    Args:
        weight: (n_out, n_in), on its device and in its final dtype.
        bias: (n_out,), or None.
        act: `gelu`, `gelu_pytorch_tanh`, `relu`, or None. With one, there can be no residual.
    """
    plain = _plain(weight, bias, act)
    if weight.device.type != "cpu":
        return plain
    try:
        fast = _pack(weight, bias, act)
        probe = torch.linspace(-1, 1, 3 * weight.shape[1]).view(3, -1).to(weight.dtype)
        _compare(fast(probe), plain(probe))
        if act is None:
            residual = torch.linspace(1, -1, 3 * weight.shape[0]).view(3, -1).to(weight.dtype)
            _compare(fast(probe, residual), plain(probe, residual))
    except (AttributeError, RuntimeError, AssertionError, TypeError) as error:
        logger.warning("torch's packed linear layers are not usable here (%s); encoding is slower.", error)
        return plain
    return fast


def _plain(weight: Tensor, bias: Tensor | None, act: str | None) -> Linear:
    def plain(x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = F.linear(x, weight, bias)
        if act is not None:
            y = F.relu(y) if act == "relu" else F.gelu(y, approximate=_POST_OPS[act][1])
        return y if residual is None else y + residual

    return plain


def _pack(weight: Tensor, bias: Tensor | None, act: str | None) -> Linear:
    ops = torch.ops.mkldnn
    packed = ops._reorder_linear_weight(weight.contiguous(), BATCH_ROWS)
    post, algorithm = _POST_OPS[act]

    def fast(x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is None:
            y: Tensor = ops._linear_pointwise(x, packed, bias, post, [], algorithm)
        else:
            y = ops._linear_pointwise.binary(x, residual, packed, bias, "add")
        return y

    return fast


def _compare(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.float(), expected.float(), rtol=0.03, atol=0.03)


def pack_experts(
    w1: Tensor, w2: Tensor, b1: Tensor | None, *, n_experts: int, act: str, dtype: torch.dtype
) -> list[tuple[Linear, Linear]]:
    """Both linear layers of each expert.

    Args:
        w1: (n_experts * ffn, hidden), as in the official file; each expert's part is used transposed.
        w2: (n_experts * ffn, hidden), each part used as it is.
        b1: (n_experts * ffn,), or None.
        n_experts: how many parts there are.
        act: name of the activation between the layers.
        dtype: what to compute in.
    """
    ups, downs = (w.view(n_experts, -1, w.shape[1]).unbind() for w in (w1, w2))
    biases = [None] * n_experts if b1 is None else b1.to(dtype).view(n_experts, -1).unbind()
    return [
        (linear(up.to(dtype), bias, act=act), linear(down.t().to(dtype), None))
        for up, down, bias in zip(ups, downs, biases, strict=True)
    ]


class PackedExperts:
    """A sparse layer and the residual around it: router, experts, and a bias that all tokens get once.

    Tokens are sorted by expert and each expert runs once, on its own. Then one pass gathers, weighs and sums
    for each token the outputs of its experts, the token itself and the bias.

    Args:
        router: one that needs no context.
        experts: both linear layers of each.
        bias: (hidden,), in the dtype of the tokens.
    """

    def __init__(self, router: Router, experts: Sequence[tuple[Linear, Linear]], bias: Tensor) -> None:
        self._router, self._experts, self._bias = router, experts, bias

    def __call__(self, x: Tensor) -> Tensor:
        """(n_tokens, hidden) to the same, `x` itself included."""
        routing = self._router(x)
        tokens, rows, sizes = group_by_expert(routing.experts, routing.gates, n_experts=len(self._experts))
        outputs, start = [], 0
        for size, (up, down) in zip(sizes, self._experts, strict=True):
            if size:
                outputs.append(down(up(x.index_select(0, tokens[start : start + size]))))
                start += size
        table = torch.cat([*outputs, x, self._bias.unsqueeze(0)])
        own = torch.arange(start, start + len(x), device=x.device).unsqueeze(1)
        summed = torch.cat([rows, own, torch.full_like(own, len(table) - 1)], dim=1)
        ones = routing.gates.new_ones(len(x), 2)
        weights = torch.cat([routing.gates, ones], dim=1).to(x.dtype)
        return F.embedding_bag(summed, table, per_sample_weights=weights, mode="sum")


def group_by_expert(experts: Tensor, gates: Tensor, *, n_experts: int) -> tuple[Tensor, Tensor, list[int]]:
    """Which tokens each expert takes, and where in its output each token finds its own.

    The groups are filled up, by at most a thirty-second, to `few_sizes`. Slots with gate 0 are in no group.

    Args:
        experts: (n_tokens, top_k) int64.
        gates: (n_tokens, top_k).
        n_experts: how many there are.

    Returns:
        tokens: (sum of sizes,) int64, group after group; what fills a group up is token 0.
        rows: (n_tokens, top_k) int64, the places in `tokens` that are theirs; 0 for gate 0.
        sizes: of each expert's group.
    """
    chosen = experts.masked_fill(gates == 0, n_experts).flatten()  # what nobody needs is sorted to the end
    order = chosen.argsort(stable=True)
    counts = torch.bincount(chosen, minlength=n_experts + 1)[:n_experts].tolist()
    sizes = [few_sizes(count, bits=6, step=4) for count in counts]
    tokens = torch.zeros(sum(sizes), dtype=torch.long, device=experts.device)
    rows = torch.zeros_like(chosen)
    start = used = 0
    for count, size in zip(counts, sizes, strict=True):
        mine = order[used : used + count]
        tokens[start : start + count] = mine // experts.shape[1]
        rows[mine] = torch.arange(start, start + count, device=experts.device)
        start, used = start + size, used + count
    return tokens, rows.view_as(experts), sizes


def few_sizes(n: int, *, bits: int, step: int = 1) -> int:
    """The next number of which only the highest `bits` bits are set, and which is a multiple of `step`.

    oneDNN prepares itself anew for each shape, which takes a millisecond and half a megabyte that it never
    gives back; so numbers of rows are filled up to few different ones.
    """
    step = max(step, 1 << max(n.bit_length() - bits, 0))
    return -(-n // step) * step


@contextmanager
def packing() -> Iterator[None]:
    """Around the packing of a model's weights: no memory is lost between them, and what comes after is fast.

    Freed tensors go back to the system, for in glibc's heap they would leave holes, half as large again as
    the weights; afterwards buffers are kept.
    """
    return_large_buffers()
    try:
        yield
    finally:
        keep_freed_buffers()
