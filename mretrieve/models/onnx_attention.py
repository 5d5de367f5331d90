"""Bidirectional self-attention in ONNX: one operator from opset 23 on, put together before.

Everything but attention works on rows, the real tokens of a batch without its padding; here they are laid
out as (batch, length) and taken back.
"""

from dataclasses import dataclass

from onnx import TensorProto

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.onnx_build import GraphBuilder
from mretrieve.models.onnx_linear import linear, quantize

_LOWEST = -3.4028234663852886e38


@dataclass(frozen=True)
class Layout:
    """How the tokens of a batch lie; each field names a value of the graph.

    `row_of` (batch, length) int64 says which row a place takes (any, where there is padding), `place_of`
    (n_tokens,) int64 is the inverse. `mask` is what attention reads, (batch, 1, length or 1, length): bool
    for the operator, else float32 to add. `cos` and `sin` are the rotary tables; `positions` (n_tokens,)
    int64.
    """

    row_of: str
    place_of: str
    positions: str
    mask: str
    cos: str = ""
    sin: str = ""


def lay_out(
    graph: GraphBuilder, config: NomicConfig, *, row_of: str, place_of: str, positions: str, visible: str
) -> Layout:
    """The layout of a batch, in the form that this opset's attention wants.

    Args:
        graph: where to add nodes.
        config: of the model.
        row_of: see `Layout`.
        place_of: see `Layout`.
        positions: (n_tokens,) int64, of each token in its text.
        visible: (batch, length) bool, whether a token is seen.
    """
    mask = graph.add("Unsqueeze", visible, graph.ints(1, 2))  # (batch, 1, 1, length)
    if graph.opset >= 23:
        length = graph.add("Shape", visible, start=1, end=2)
        square = graph.add("Concat", graph.ints(1, 1), length, graph.ints(1), axis=0)
        mask = graph.add("Expand", mask, square)  # (batch, 1, length, length): broadcasting is not reliable
    else:
        mask = graph.add("Where", mask, graph.number(0.0), graph.number(_LOWEST))
    if config.position_embedding_type != "rotary":
        return Layout(row_of, place_of, positions, mask)
    cos, sin = (
        graph.weight(f"rotary.{name}", config.max_position_embeddings, config.rotary_dim // 2)
        for name in ("cos", "sin")
    )
    if graph.opset < 23:
        cos, sin = (
            graph.add("Unsqueeze", graph.add("Gather", table, positions, axis=0), graph.ints(1))
            for table in (cos, sin)
        )  # (n_tokens, 1, rotary_dim / 2)
    return Layout(row_of, place_of, positions, mask, cos, sin)


def attention(graph: GraphBuilder, x: str, prefix: str, layout: Layout, config: NomicConfig) -> str:
    """(n_tokens, hidden) to the same."""
    hidden = config.hidden_size
    rows = quantize(graph, x)
    cubes = []
    for number, part in enumerate(("query", "key", "value")):
        span = f"[{number * hidden}:{(number + 1) * hidden}]"
        bias = f"{prefix}Wqkv.bias{span}" if config.attention_bias else None
        y = linear(graph, rows, f"{prefix}Wqkv.weight{span}", hidden, hidden, bias=bias, turned=True)
        if part != "value" and layout.cos:
            y = _rotate(graph, y, layout, config)
        cubes.append(graph.add("Gather", y, layout.row_of, axis=0))  # (batch, length, hidden)
    heads = config.num_attention_heads
    if graph.opset >= 23:
        mixed = graph.add("Attention", *cubes, layout.mask, q_num_heads=heads, kv_num_heads=heads)
    else:
        mixed = _attend(graph, cubes, layout.mask, config)
    flat = graph.add("Reshape", mixed, graph.ints(-1, hidden))
    context = quantize(graph, graph.add("Gather", flat, layout.place_of, axis=0))
    bias = f"{prefix}out_proj.bias" if config.attention_bias else None
    return linear(graph, context, f"{prefix}out_proj.weight", hidden, hidden, bias=bias, turned=True)


def _attend(graph: GraphBuilder, cubes: list[str], mask: str, config: NomicConfig) -> str:
    """Scaled dot-product attention over (batch, length, hidden) each."""
    shape = graph.ints(0, 0, config.num_attention_heads, config.head_dim)
    q, k, v = (
        graph.add("Transpose", graph.add("Reshape", cube, shape), perm=perm)
        for cube, perm in zip(cubes, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
    )
    q = graph.add("Mul", q, graph.number(config.head_dim**-0.5))
    scores = graph.add("Add", graph.add("MatMul", q, k), mask)  # (batch, heads, length, length)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), v)
    return graph.add("Transpose", mixed, perm=[0, 2, 1, 3])


def _rotate(graph: GraphBuilder, x: str, layout: Layout, config: NomicConfig) -> str:
    """Rotary positions on (n_tokens, hidden)."""
    if graph.opset < 23:
        return _rotate_in_steps(graph, x, layout, config)
    one = graph.ints(1)  # each row as a text of its own: ONNX Runtime refuses texts longer than the tables
    rotated = graph.add(
        "RotaryEmbedding",
        graph.add("Unsqueeze", x, one),
        layout.cos,
        layout.sin,
        graph.add("Unsqueeze", layout.positions, one),
        num_heads=config.num_attention_heads,
        interleaved=int(config.rotary_interleaved),
        rotary_embedding_dim=config.rotary_dim if config.rotary_fraction < 1 else 0,
    )
    return graph.add("Squeeze", rotated, one)


def _rotate_in_steps(graph: GraphBuilder, x: str, layout: Layout, config: NomicConfig) -> str:
    dim, rest = config.rotary_dim, config.head_dim - config.rotary_dim
    x = graph.add("Reshape", x, graph.ints(0, config.num_attention_heads, config.head_dim))
    tail = []
    if rest:
        x, kept = graph.add_many("Split", [x, graph.ints(dim, rest)], 2, axis=-1)
        tail = [kept]
    first, second = _pairs(graph, x, config)
    turned = [
        graph.add("Sub", graph.add("Mul", first, layout.cos), graph.add("Mul", second, layout.sin)),
        graph.add("Add", graph.add("Mul", second, layout.cos), graph.add("Mul", first, layout.sin)),
    ]
    if config.rotary_interleaved:
        turned = [graph.add("Unsqueeze", part, graph.ints(-1)) for part in turned]
        whole = graph.add("Concat", *turned, axis=-1)
        turned = [graph.add("Reshape", whole, graph.ints(0, config.num_attention_heads, dim))]
    rotated = graph.add("Concat", *turned, *tail, axis=-1)
    return graph.add("Reshape", rotated, graph.ints(0, config.hidden_size))


def _pairs(graph: GraphBuilder, x: str, config: NomicConfig) -> list[str]:
    """The two members of each rotated pair: neighbours, or the two halves."""
    half = config.rotary_dim // 2
    if not config.rotary_interleaved:
        return graph.add_many("Split", [x, graph.ints(half, half)], 2, axis=-1)
    end, last = graph.ints(config.rotary_dim), graph.ints(-1)
    return [graph.add("Slice", x, graph.ints(start), end, last, graph.ints(2)) for start in (0, 1)]


def padding_mask(graph: GraphBuilder, mask: str) -> tuple[str, str]:
    """Which tokens are real, and which are seen: (batch, length) int64 to the same in bool, twice.

    A text without any token sees its padding, which nobody reads: else attention would divide by zero.
    """
    real = graph.add("Cast", mask, to=TensorProto.BOOL)
    count = graph.reduce("ReduceMax", graph.add("Cast", real, to=TensorProto.INT64), 1)
    nothing = graph.add("Equal", count, graph.number(0, TensorProto.INT64))  # (batch, 1)
    return real, graph.add("Or", real, nothing)
