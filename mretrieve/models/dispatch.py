"""How tokens meet their experts: several strategies that compute the same, and which one is chosen when.

All are exact: no capacity, no padding, no dropped token (as in MegaBlocks, Gale et al., 2022,
arXiv:2211.15841). A token's experts are always summed in the same order, in float32, and the sorted
strategies have no atomic additions, forward and backward: a run repeats itself bit by bit.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from mretrieve.models.grouped import grouped_linear, has_kernel
from mretrieve.models.routing import Routing

Activation = Callable[[Tensor], Tensor]
ExpertPart = tuple[Tensor, Tensor, Tensor | None]


class Weights(Protocol):
    """What a strategy needs of the experts; `ExpertWeights` says how they lie."""

    n_experts: int
    act: Activation

    @property
    def w1(self) -> Tensor:
        """(n_experts * ffn, hidden)."""

    @property
    def w2(self) -> Tensor:
        """(n_experts * ffn, hidden)."""

    @property
    def b1(self) -> Tensor | None:
        """(n_experts * ffn,), if experts have biases."""

    def split(self) -> list[ExpertPart]:
        """Each expert's own (w1, w2, b1)."""

    def run(self, x: Tensor, part: ExpertPart) -> Tensor:
        """One expert's output, without gate: (n, hidden) to (n, hidden)."""


Dispatch = Callable[[Tensor, Weights, Routing], Tensor]
"""(n_tokens, hidden) tokens, weights and routing to the sums of gated outputs, (n_tokens, hidden)."""


def dispatch_grouped(x: Tensor, weights: Weights, routing: Routing) -> Tensor:
    """Sort the tokens by expert and multiply all groups at once.

    Nothing is asked of the device: no count reaches the host, and shapes depend on shapes alone. So it
    can be captured as a CUDA graph where torch has the kernel, and compiled as one graph everywhere. Slots
    with gate 0 are computed like all others.
    """
    if not len(x):
        return torch.zeros_like(x)
    dtype = _compute_dtype(x)
    w1, w2, b1 = _stacked(weights, dtype)
    order, ends = sort_slots(routing.experts, weights.n_experts)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    place = place.view_as(routing.experts)
    rows: Tensor = _Spread.apply(x.to(dtype), order, place)  # type: ignore[no-untyped-call]
    inner = grouped_linear(rows, w1, ends, transposed=True)  # (n_slots, ffn)
    if b1 is not None:
        # A product with one-hot rows, because the gradient of a lookup would need atomic additions.
        owner = routing.experts.flatten().index_select(0, order).unsqueeze(1)
        inner = torch.addmm(inner, (owner == torch.arange(len(b1), device=x.device)).to(dtype), b1)
    outer = grouped_linear(weights.act(inner), w2, ends, transposed=False)
    summed: Tensor = _Combine.apply(outer, routing.gates, order, place, x.dtype)  # type: ignore[no-untyped-call]
    return summed


def dispatch_loop(x: Tensor, weights: Weights, routing: Routing) -> Tensor:
    """Sort the tokens by expert and run each expert once on its own.

    The counts are read on the host, so this one makes it wait for a GPU. Slots with gate 0 are skipped.
    """
    n_tokens, top_k = routing.experts.shape
    # No expert has the number n_experts: what has it is sorted to the end, and left there.
    experts = routing.experts.masked_fill(routing.gates == 0, weights.n_experts)
    order, ends = sort_slots(experts, weights.n_experts)
    outputs, start, stops = [], 0, ends.tolist()
    order = order[: stops[-1]]
    rows = x[order // top_k]  # (n_kept, hidden)
    for part, stop in zip(weights.split(), stops, strict=True):
        if stop > start:
            outputs.append(weights.run(rows[start:stop], part))
        start = stop
    outer = torch.cat(outputs) if outputs else rows
    outer = outer.new_zeros(n_tokens * top_k, x.shape[1]).index_copy(0, order, outer)
    return _gated_sum(outer.view(n_tokens, top_k, x.shape[1]), routing.gates).to(x.dtype)


def dispatch_gathered(x: Tensor, weights: Weights, routing: Routing) -> Tensor:
    """Copy each slot's weights and multiply one by one: for very few tokens.

    Nothing is asked of the device, but 2 * n_slots * ffn * hidden weights are copied.
    """
    n_tokens, top_k = routing.experts.shape
    chosen = routing.experts.flatten()
    dtype = _compute_dtype(x)
    w1, w2, b1 = _stacked(weights, dtype)
    rows = x.to(dtype).repeat_interleave(top_k, dim=0).unsqueeze(1)  # (n_slots, 1, hidden)
    inner = torch.bmm(rows, w1[chosen].transpose(1, 2))  # (n_slots, 1, ffn)
    inner = inner if b1 is None else inner + b1[chosen].unsqueeze(1)
    outer = torch.bmm(weights.act(inner), w2[chosen]).view(n_tokens, top_k, x.shape[1])
    return _gated_sum(outer, routing.gates).to(x.dtype)


def dispatch_all(x: Tensor, weights: Weights, routing: Routing) -> Tensor:
    """Run every expert on every token and weigh with the gates, most of which are 0.

    Many times the work, but without any decision that depends on the data, in plain matrix products.
    """
    gates = torch.zeros_like(routing.logits).scatter_add(1, routing.experts, routing.gates)
    total = torch.zeros_like(x, dtype=torch.float32)
    for number, part in enumerate(weights.split()):
        total = total + weights.run(x, part) * gates[:, number, None]
    return total.to(x.dtype)


DISPATCHES: dict[str, Dispatch] = {
    "grouped": dispatch_grouped,
    "loop": dispatch_loop,
    "gathered": dispatch_gathered,
    "all": dispatch_all,
}
"""Strategies by name; the values agree, the time does not."""

# The fastest on each kind of device, for each dtype of matrix products, with gradients and without: up to so
# many tokens, this strategy; "grouped" where nothing is said. Measured with `python benchmarks/dispatch.py
# --cpu-time`, which prints this table, on AMD Zen 4 with the sizes of v2 and e5-small. GPUs are not measured
# yet (`--device cuda`): there the grouped kernel is the one that neither waits for the host nor does more.
TABLE: dict[tuple[str, torch.dtype, bool], tuple[tuple[float, str], ...]] = {
    ("cpu", torch.float32, False): ((64, "loop"), (math.inf, "grouped")),
    ("cpu", torch.float32, True): ((1, "loop"), (math.inf, "grouped")),
    ("cpu", torch.bfloat16, False): ((256, "loop"), (math.inf, "grouped")),
    ("cpu", torch.bfloat16, True): ((4, "loop"), (math.inf, "grouped")),
}


def dispatch_auto(x: Tensor, weights: Weights, routing: Routing) -> Tensor:
    """Whatever `choose_dispatch` says."""
    return DISPATCHES[choose_dispatch(x, weights, routing)](x, weights, routing)


def choose_dispatch(x: Tensor, weights: Weights, routing: Routing) -> str:
    """The name of the strategy that is fastest here, among those that can run here."""
    if torch.compiler.is_compiling():
        return "grouped"  # the others break the graph, or do many times the work
    dtype = _compute_dtype(x)
    if x.device.type == "cuda":
        ffn, hidden = weights.w1.shape[0] // weights.n_experts, weights.w1.shape[1]
        if not has_kernel(x.device, dtype, ffn, hidden) and torch.cuda.is_current_stream_capturing():
            return "gathered" if routing.experts.numel() <= weights.n_experts else "all"
    elif x.device.type == "cpu" and not routing.gates.all():
        return "loop"  # the one that can leave out unused slots
    gradients = torch.is_grad_enabled() and (x.requires_grad or weights.w1.requires_grad)
    rows = TABLE.get((x.device.type, dtype, gradients), ())
    return next((name for most, name in rows if len(x) <= most), "grouped")


def sort_slots(experts: Tensor, n_experts: int) -> tuple[Tensor, Tensor]:
    """Order (token, choice) pairs by expert, and by number within each.

    Args:
        experts: (n_tokens, top_k) from 0; pairs of `n_experts` come last and belong to none.
        n_experts: below 2 ** 15.

    Returns:
        order: (n_tokens * top_k,) int64, numbers of pairs.
        ends: (n_experts,) int32, where each expert's pairs end in `order`.
    """
    # A radix sort takes one pass for each byte of the key; int64 would take eight.
    key = torch.uint8 if n_experts < 2**8 else torch.int16
    found, order = experts.flatten().to(key).sort(stable=True)
    numbers = torch.arange(n_experts, dtype=key, device=experts.device)
    return order, torch.searchsorted(found, numbers, right=True, out_int32=True)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of matrix products here: autocast does not know the grouped ones, and leaves float64."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _stacked(weights: Weights, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    """(n_experts, ffn, hidden) twice, and (n_experts, ffn) if there are biases."""
    n, hidden = weights.n_experts, weights.w1.shape[1]
    w1, w2 = (w.to(dtype).view(n, -1, hidden) for w in (weights.w1, weights.w2))
    return w1, w2, None if weights.b1 is None else weights.b1.to(dtype).view(n, -1)


def _gated_sum(outer: Tensor, gates: Tensor) -> Tensor:
    """(n_tokens, top_k, hidden) to (n_tokens, hidden), in float32 as the gates are."""
    return (outer * gates.unsqueeze(-1)).sum(dim=1)


class _Spread(torch.autograd.Function):
    """Tokens to the rows of their pairs, in order; the gradient gathers, too, where plain indexing adds."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return x.index_select(0, order // place.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors
        return gradient.index_select(0, place.flatten()).view(*place.shape, -1).sum(dim=1), None, None


class _Combine(torch.autograd.Function):
    """The rows of each token's pairs, times their gates, summed in float32."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, gates: Tensor, order: Tensor, place: Tensor, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(rows, gates, order, place)
        (column, *columns), (gate, *others) = place.unbind(dim=1), gates.unsqueeze(2).unbind(dim=1)
        total: Tensor = rows.index_select(0, column) * gate  # float32, as the gates are
        for column, gate in zip(columns, others, strict=True):
            total.addcmul_(rows.index_select(0, column), gate)
        return total.to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        rows, gates, order, place = ctx.saved_tensors
        for_rows = for_gates = None
        if ctx.needs_input_grad[0]:
            scale = gates.flatten().index_select(0, order).unsqueeze(1)
            for_rows = (gradient.index_select(0, order // place.shape[1]) * scale).to(rows.dtype)
        if ctx.needs_input_grad[1]:
            wide = gradient.to(gates.dtype)
            columns = [(rows.index_select(0, column) * wide).sum(dim=1) for column in place.unbind(dim=1)]
            for_gates = torch.stack(columns, dim=1)
        return for_rows, for_gates, None, None, None
