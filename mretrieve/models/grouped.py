"""One linear layer per expert over rows that are sorted by expert: a grouped matrix product.

On Hopper and Blackwell torch has a kernel for it that takes the groups' ends from the device, so that
nothing waits for the host (bfloat16 only). Elsewhere torch's own operator copies the ends to the host, is
not traceable but in bfloat16, and refuses float64; the operator here does the same loop in every dtype and
tells the tracer its shapes, so that `torch.compile` sees one graph.
"""

from typing import Any

import torch
from torch import Tensor


def grouped_linear(rows: Tensor, weights: Tensor, ends: Tensor, *, transposed: bool) -> Tensor:
    """Each group's rows times its own weights.

    Args:
        rows: (n_rows, k), sorted by group.
        weights: (n_groups, n, k) with `transposed`, as in `nn.Linear`; (n_groups, k, n) without; the
            dtype of `rows`.
        ends: (n_groups,) int32 on the rows' device, where each group ends; the last is n_rows.
        transposed: which of the two layouts `weights` has.

    Returns:
        (n_rows, n).
    """
    if has_kernel(rows.device, rows.dtype, *weights.shape[1:]):
        return torch_grouped_linear(rows, weights, ends, transposed=transposed)
    found: Tensor = torch.ops.mretrieve.grouped_linear(rows, weights, ends, transposed)
    return found


def torch_grouped_linear(rows: Tensor, weights: Tensor, ends: Tensor, *, transposed: bool) -> Tensor:
    """`grouped_linear` by torch's operator, under the name that this version of torch has for it."""
    grouped_mm = getattr(torch.nn.functional, "grouped_mm", None) or torch._grouped_mm
    found: Tensor = grouped_mm(rows, weights.transpose(1, 2) if transposed else weights, offs=ends)
    return found


def has_kernel(device: torch.device, dtype: torch.dtype, *widths: int) -> bool:
    """Whether torch computes this on the device alone, without asking the host for the ends.

    Its kernel is for compute capability 9.x and 10.x, bfloat16, and rows of whole 16 bytes.
    """
    if device.type != "cuda" or dtype != torch.bfloat16 or torch.version.hip:
        return False
    aligned = all(width * dtype.itemsize % 16 == 0 for width in widths)
    return aligned and compute_capability(device)[0] in (9, 10)


def compute_capability(device: torch.device) -> tuple[int, int]:
    """Of a CUDA device; asked for in a way that the compiler takes for a constant."""
    properties = torch.cuda.get_device_properties(device)
    return properties.major, properties.minor


@torch.library.custom_op("mretrieve::grouped_linear", mutates_args=())
def _linear(rows: Tensor, weights: Tensor, ends: Tensor, transposed: bool) -> Tensor:
    outputs = rows.new_empty(rows.shape[0], weights.shape[1 if transposed else 2])
    start = 0
    for weight, end in zip(weights, ends.tolist(), strict=True):
        torch.mm(rows[start:end], weight.t() if transposed else weight, out=outputs[start:end])
        start = end
    return outputs


@_linear.register_fake
def _linear_shape(rows: Tensor, weights: Tensor, ends: Tensor, transposed: bool) -> Tensor:
    return rows.new_empty(rows.shape[0], weights.shape[1 if transposed else 2])


@torch.library.custom_op("mretrieve::grouped_linear_weight_gradient", mutates_args=())
def _weight_gradient(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """left.T @ right of each group: (n_rows, m) and (n_rows, n) to (n_groups, m, n)."""
    gradient = left.new_empty(ends.shape[0], left.shape[1], right.shape[1])
    start = 0
    for out, end in zip(gradient, ends.tolist(), strict=True):
        torch.mm(left[start:end].t(), right[start:end], out=out)  # zeros where the group is empty
        start = end
    return gradient


@_weight_gradient.register_fake
def _weight_gradient_shape(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    return left.new_empty(ends.shape[0], left.shape[1], right.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    rows, weights, ends, transposed = inputs
    ctx.save_for_backward(rows, weights, ends)
    ctx.transposed = transposed


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    rows, weights, ends = ctx.saved_tensors
    gradient = gradient.contiguous()
    for_rows = for_weights = None
    if ctx.needs_input_grad[0]:
        for_rows = torch.ops.mretrieve.grouped_linear(gradient, weights, ends, not ctx.transposed)
    if ctx.needs_input_grad[1]:
        # In the layout of the weights, so that the parameter takes the gradient without a copy.
        pair = (gradient, rows) if ctx.transposed else (rows, gradient)
        for_weights = torch.ops.mretrieve.grouped_linear_weight_gradient(*pair, ends)
    return for_rows, for_weights, None, None


torch.library.register_autograd("mretrieve::grouped_linear", _backward, setup_context=_keep)
