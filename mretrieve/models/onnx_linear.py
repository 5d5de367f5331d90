"""Linear layers in ONNX, in float32 or with weights and activations of eight bits.

In int8 each token has its own scale. One scale for a whole batch, as DynamicQuantizeLinear has it, is set
by the few tokens with huge activations (`<s>` above all, Sun et al., 2024, arXiv:2402.17762), and leaves
the others a tenth of the steps.
"""

from dataclasses import dataclass

from onnx import TensorProto

from mretrieve.models.onnx_build import GraphBuilder

_CENTRE = 128
"""The code of 0 where values lie on both sides of it."""

# GELU's least value is -0.17: 48 of 256 codes for what is below 0 waste little of either side.
_LEAST = {"gelu": (-0.17, 48), "gelu_pytorch_tanh": (-0.1701, 48), "relu": (0.0, 0)}


@dataclass(frozen=True)
class Codes:
    """Rows as eight-bit codes: value = (code - zero) * scale, `scales` being (n,)."""

    codes: str
    scales: str
    zero: int


Rows = str | Codes
"""(n, features), in float32 or as codes."""


def quantize(graph: GraphBuilder, x: str, *, activation: str | None = None) -> Rows:
    """Rows for linear layers to read: as they are, or in an int8 graph as codes.

    Args:
        graph: where to add nodes.
        x: (n, features) float32.
        activation: whose output `x` is, so that its least value is known.
    """
    if not graph.int8:
        return x
    least, zero = (None, _CENTRE) if activation is None else _LEAST[activation]
    top = graph.reduce("ReduceMax", x, 1, keep=False)  # (n,)
    if least is None:
        reach = graph.add("Max", top, graph.add("Neg", graph.reduce("ReduceMin", x, 1, keep=False)))
        floor = 1e-10  # a row of zeros
    else:
        reach, floor = top, max(-least / max(zero, 1), 1e-10)
    steps = graph.number(float(255 - zero if zero != _CENTRE else 127))
    scales = graph.add("Max", graph.add("Div", reach, steps), graph.number(floor))
    zeros = graph.add("Expand", graph.number(zero, TensorProto.UINT8), graph.add("Shape", scales))
    return Codes(graph.add("QuantizeLinear", x, scales, zeros, axis=0), scales, zero)


def add_unit(graph: GraphBuilder, x: str) -> None:
    """Give an int8 graph its `unit`, made of any of its inputs.

    ONNX Runtime joins an integer product with the scales that follow it where one of the two is a constant
    and the other is not; two constants it multiplies beforehand, and then joins nothing. A scale per row in
    that place is no way out: it would be applied to the bias as well (seen in 1.23 and 1.32).
    """
    if graph.int8:
        size = graph.add("Greater", graph.add("Size", x), graph.number(-1, TensorProto.INT64))
        graph.unit = graph.add("Cast", size, to=TensorProto.FLOAT)


def take(graph: GraphBuilder, rows: Rows, index: str, parts: list[str], counts: str) -> list[Rows]:
    """Several groups of the rows.

    Args:
        graph: where to add nodes.
        rows: (n, features).
        index: the rows' numbers, group after group.
        parts: the same, each group's by itself.
        counts: (n_groups,) int64, how many rows each group has.
    """
    if isinstance(rows, str):
        return [graph.add("Gather", rows, part, axis=0) for part in parts]
    scales = split(graph, graph.add("Gather", rows.scales, index, axis=0), counts, len(parts))
    return [
        Codes(graph.add("Gather", rows.codes, part, axis=0), scale, rows.zero)
        for part, scale in zip(parts, scales, strict=True)
    ]


def split(graph: GraphBuilder, x: str, counts: str, n_parts: int) -> list[str]:
    """A vector's parts, as many as `counts` has numbers."""
    return graph.add_many("Split", [x, counts], n_parts, axis=0)


def linear(
    graph: GraphBuilder, rows: Rows, weight: str, n_in: int, n_out: int, *, bias: str | None, turned: bool
) -> str:
    """Rows times a matrix, plus a bias.

    Args:
        graph: where to add nodes.
        rows: (n, n_in).
        weight: name of the matrix, see `mretrieve.models.onnx_weights`.
        n_in: features of a row.
        n_out: features of the result.
        bias: name of the vector that is added; None for none.
        turned: the matrix is (n_out, n_in) and used transposed, as in torch's Linear; else (n_in, n_out).

    Returns:
        (n, n_out) float32.
    """
    added = [] if bias is None else [graph.weight(bias, n_out)]
    if isinstance(rows, str):
        matrix = graph.weight(weight, *((n_out, n_in) if turned else (n_in, n_out)))
        return graph.add("Gemm", rows, matrix, *added, transB=int(turned))
    y = unscaled(graph, rows, weight, n_in, n_out, turned=turned)
    y = graph.add("Mul", y, graph.add("Unsqueeze", rows.scales, graph.ints(1)))
    # A bias of shape (1, n_out) keeps ONNX Runtime from joining it with a GELU that follows: that kernel
    # takes a third longer than the two.
    return graph.add("Add", y, graph.add("Unsqueeze", *added, graph.ints(0))) if added else y


def unscaled(graph: GraphBuilder, rows: Rows, weight: str, n_in: int, n_out: int, *, turned: bool) -> str:
    """Rows times a matrix, codes without their rows' scales; arguments as of `linear`."""
    if isinstance(rows, str):
        return linear(graph, rows, weight, n_in, n_out, bias=None, turned=turned)
    name = f"{weight}.T" if turned else weight
    matrix = graph.weight(f"{name}.int8", n_in, n_out, dtype=TensorProto.INT8)
    zero = graph.number(rows.zero, TensorProto.UINT8)
    total = graph.add("Cast", graph.add("MatMulInteger", rows.codes, matrix, zero), to=TensorProto.FLOAT)
    return graph.add("Mul", total, graph.add("Mul", graph.unit, graph.weight(f"{name}.scale", n_out)))
