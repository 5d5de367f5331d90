"""The ONNX graph of NomicMoE, sparse: each expert computes its own tokens and no others.

How: one NonZero lists the choices expert after expert; each expert's tokens are gathered and sent through
its two products, and all experts' outputs put end to end; one inverse Gather brings each token its own,
which one small product weighs with the gates and sums. Nothing is added into place, which runtimes do one
row at a time, and nothing is padded: padding is dropped before the first layer.
"""

from onnx import TensorProto

from mretrieve.models.modules import Head
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.onnx_attention import Layout, attention, lay_out, padding_mask
from mretrieve.models.onnx_build import GraphBuilder
from mretrieve.models.onnx_linear import Codes, Rows, add_unit, linear, quantize, split, take, unscaled


def encoder_graph(
    config: NomicConfig,
    *,
    opset: int,
    int8: bool = False,
    sparse: bool = True,
    pooling: str | None = None,
    normalize: bool = True,
    head: Head | None = None,
) -> GraphBuilder:
    """From token ids to hidden states, as sentence-transformers feeds and reads them.

    Inputs are `input_ids` and `attention_mask`, (batch, length) int64. Outputs are `last_hidden_state`,
    (batch, length, hidden) float32, zero on padding, and with a `pooling` also `sentence_embedding`,
    (batch, dim) float32. The head's weights are `head.weight`, (hidden, dim), and `head.bias`.

    Args:
        config: the model; its router is `softmax`.
        opset: of the standard operators.
        int8: weights and the activations that meet them in eight bits.
        sparse: False computes all experts for all tokens, for comparison.
        pooling: `mean`, `cls` or None for no embedding.
        normalize: whether embeddings get unit length.
        head: linear layer between pooling and norm.
    """
    graph = GraphBuilder(opset, int8=int8)
    ids = graph.input("input_ids", TensorProto.INT64, "batch", "length")
    mask = graph.input("attention_mask", TensorProto.INT64, "batch", "length")
    add_unit(graph, ids)
    real, visible = padding_mask(graph, mask)
    layout = _find_places(graph, visible, config)
    x = _embed(graph, graph.add("Gather", _flat(graph, ids), layout.place_of, axis=0), layout, config)
    x = _layers(graph, x, layout, config, sparse=sparse)
    cube = graph.add("Gather", x, layout.row_of, axis=0)  # (batch, length, hidden)
    seen = graph.add("Unsqueeze", visible, graph.ints(2))
    hidden = graph.add("Where", seen, cube, graph.number(0.0))
    graph.output("last_hidden_state", hidden, TensorProto.FLOAT, "batch", "length", config.hidden_size)
    if pooling is not None:
        pooled, dim = _pool(graph, hidden, real, pooling), config.hidden_size
        if head is not None:
            dim = len(head.weight)
            pooled = graph.add("MatMul", pooled, graph.weight("head.weight", config.hidden_size, dim))
            if head.bias is not None:
                pooled = graph.add("Add", pooled, graph.weight("head.bias", dim))
        if normalize:
            # LpNormalization would do it in one, but ONNX Runtime lacks its newer versions before 1.25.
            size = graph.add("Max", graph.reduce("ReduceL2", pooled, 1), graph.number(1e-12))
            pooled = graph.add("Div", pooled, size)
        graph.output("sentence_embedding", pooled, TensorProto.FLOAT, "batch", dim)
    return graph


def rows_graph(config: NomicConfig, *, opset: int, int8: bool = False) -> GraphBuilder:
    """From embedded tokens to hidden states, for a caller that looks up the words itself.

    Inputs: `embedded` (n_tokens, hidden) float32, the sum of the embeddings before their norm; `positions`
    (n_tokens,) int64; `row_of` (batch, length) and `place_of` (n_tokens,) int64, see `Layout`; `visible`
    (batch, length) bool. The output `hidden` is (n_tokens, hidden) float32.
    """
    graph = GraphBuilder(opset, int8=int8)
    embedded = graph.input("embedded", TensorProto.FLOAT, "tokens", config.hidden_size)
    add_unit(graph, embedded)
    layout = lay_out(
        graph,
        config,
        positions=graph.input("positions", TensorProto.INT64, "tokens"),
        row_of=graph.input("row_of", TensorProto.INT64, "batch", "length"),
        place_of=graph.input("place_of", TensorProto.INT64, "tokens"),
        visible=graph.input("visible", TensorProto.BOOL, "batch", "length"),
    )
    x = _layers(graph, graph.norm(embedded, "emb_ln", config), layout, config, sparse=True)
    graph.output("hidden", x, TensorProto.FLOAT, "tokens", config.hidden_size)
    return graph


def expert_layer_graph(
    config: NomicConfig, *, opset: int, int8: bool = False, sparse: bool = True
) -> GraphBuilder:
    """One layer of experts alone, for measuring: `x` (n_tokens, hidden) float32 to `y`, the same.

    Its weights have the names of layer 0.
    """
    graph = GraphBuilder(opset, int8=int8)
    x = graph.input("x", TensorProto.FLOAT, "tokens", config.hidden_size)
    add_unit(graph, x)
    layer = _experts if sparse else _all_experts
    y = layer(graph, x, "encoder.layers.0.mlp.", config)
    graph.output("y", y, TensorProto.FLOAT, "tokens", config.hidden_size)
    return graph


def _flat(graph: GraphBuilder, x: str) -> str:
    return graph.add("Reshape", x, graph.ints(-1))


def _find_places(graph: GraphBuilder, visible: str, config: NomicConfig) -> Layout:
    """Where the rows of a padded batch lie, from its (batch, length) bool mask."""
    flat = _flat(graph, visible)
    count = graph.add(
        "CumSum", graph.add("Cast", flat, to=TensorProto.INT64), graph.number(0, TensorProto.INT64)
    )
    before = graph.add("Sub", count, graph.ints(1))
    row_of = graph.add("Max", before, graph.ints(0))  # padding takes its left neighbour, or the first
    place_of = _flat(graph, graph.add("NonZero", flat))
    length = graph.add("Shape", visible, start=1, end=2)
    return lay_out(
        graph,
        config,
        row_of=graph.add("Reshape", row_of, graph.add("Shape", visible)),
        place_of=place_of,
        positions=graph.add("Mod", place_of, length),
        visible=visible,
    )


def _embed(graph: GraphBuilder, ids: str, layout: Layout, config: NomicConfig) -> str:
    """Words and positions, (n_tokens,) to (n_tokens, hidden); every token has type 0."""
    name, shape = "embeddings.word_embeddings.weight", (config.vocab_size, config.hidden_size)
    if graph.int8:
        codes = graph.weight(f"{name}.row_int8", *shape, dtype=TensorProto.INT8)
        scales = graph.weight(f"{name}.row_scale", shape[0], 1)
        x = graph.add("Cast", graph.add("Gather", codes, ids, axis=0), to=TensorProto.FLOAT)
        x = graph.add("Mul", x, graph.add("Gather", scales, ids, axis=0))
    else:
        x = graph.add("Gather", graph.weight(name, *shape), ids, axis=0)
    if config.position_embedding_type == "absolute":
        places = graph.weight("places", config.max_length, config.hidden_size)
        x = graph.add("Add", x, graph.add("Gather", places, layout.positions, axis=0))
    else:
        x = graph.add("Add", x, graph.weight("places", 1, config.hidden_size))
    return graph.norm(x, "emb_ln", config)


def _layers(graph: GraphBuilder, x: str, layout: Layout, config: NomicConfig, *, sparse: bool) -> str:
    """All layers: (n_tokens, hidden) to the same."""
    for layer in range(config.num_hidden_layers):
        prefix = f"encoder.layers.{layer}."
        mixed = attention(graph, x, f"{prefix}attn.", layout, config)
        x = graph.norm(graph.add("Add", mixed, x), f"{prefix}norm1", config)
        if layer not in config.moe_layers:
            y = _dense(graph, x, f"{prefix}mlp.", config)
        elif sparse:
            y = _experts(graph, x, f"{prefix}mlp.", config)
        else:
            y = _all_experts(graph, x, f"{prefix}mlp.", config)
        x = graph.norm(graph.add("Add", y, x), f"{prefix}norm2", config)
    return x


def _dense(graph: GraphBuilder, x: str, prefix: str, config: NomicConfig) -> str:
    hidden, ffn = config.hidden_size, config.intermediate_size
    b1 = f"{prefix}fc1.bias" if config.fc1_bias else None
    b2 = f"{prefix}fc2.bias" if config.fc2_bias else None
    y = linear(graph, quantize(graph, x), f"{prefix}fc1.weight", hidden, ffn, bias=b1, turned=True)
    inner = quantize(graph, graph.activation(y, config.hidden_act), activation=config.hidden_act)
    return linear(graph, inner, f"{prefix}fc2.weight", ffn, hidden, bias=b2, turned=True)


def _experts(graph: GraphBuilder, x: str, prefix: str, config: NomicConfig) -> str:
    """Each expert on the tokens that chose it; (n_tokens, hidden) to the same."""
    top_k, hidden = config.moe_top_k, config.hidden_size
    gates, chosen = _route(graph, x, prefix, config)
    order, counts = _by_expert(graph, chosen, config.num_experts)
    tokens = graph.add("Div", order, graph.number(top_k, TensorProto.INT64))
    parts = split(graph, tokens, counts, config.num_experts)
    groups = take(graph, quantize(graph, x), tokens, parts, counts)
    outputs, scales = [], []
    for expert, rows in enumerate(groups):
        inner = _inner(graph, rows, prefix, expert, config)
        outputs.append(_outer(graph, inner, prefix, expert, config))
        scales += [inner.scales] if isinstance(inner, Codes) else []
    bounds = (graph.number(0, TensorProto.INT64), graph.add("Size", order))
    places = graph.add("Range", *bounds, graph.number(1, TensorProto.INT64))
    back = graph.add("ScatterElements", order, order, places, axis=0)
    own = graph.add("Gather", graph.add("Concat", *outputs, axis=0), back, axis=0)
    own = graph.add("Reshape", own, graph.ints(-1, top_k, hidden))
    if scales:  # of the rows between the products: cheaper to weigh with here than there
        scale = graph.add("Gather", graph.add("Concat", *scales, axis=0), back, axis=0)
        gates = graph.add("Mul", gates, graph.add("Reshape", scale, graph.ints(-1, top_k)))
    total = graph.add("MatMul", graph.add("Unsqueeze", gates, graph.ints(1)), own)  # (n_tokens, 1, hidden)
    total = graph.add("Squeeze", total, graph.ints(1))
    return graph.add("Add", total, graph.weight(f"{prefix}experts.bias", hidden))


def _by_expert(graph: GraphBuilder, chosen: str, n_experts: int) -> tuple[str, str]:
    """Who chose the first expert, the second, ..., as token * top_k + rank; and how many did so of each.

    From (n_tokens, top_k) to (n_tokens * top_k,) and (n_experts,), all int64.
    """
    mine = graph.add("Equal", graph.column(*range(n_experts)), _flat(graph, chosen))
    # Its rows are listed one after another: (2, n_tokens * top_k), experts above choices.
    order = graph.add("Gather", graph.add("NonZero", mine), graph.number(1, TensorProto.INT64), axis=0)
    counts = graph.reduce("ReduceSum", graph.add("Cast", mine, to=TensorProto.INT64), 1, keep=False)
    return order, counts


def _all_experts(graph: GraphBuilder, x: str, prefix: str, config: NomicConfig) -> str:
    """Every expert on every token, weighed with gates that are mostly 0."""
    gates, chosen = _route(graph, x, prefix, config)
    n, rows = config.num_experts, quantize(graph, x)
    tokens = graph.add("Shape", gates, start=0, end=1)
    shape = graph.add("Concat", tokens, graph.ints(n), axis=0)
    nothing = graph.add("Expand", graph.number(0.0), shape)
    full = graph.add("ScatterElements", nothing, chosen, gates, axis=1)  # (n_tokens, n_experts)
    columns = graph.add_many("Split", [full, graph.ints(*[1] * n)], n, axis=1)
    total = graph.weight(f"{prefix}experts.bias", config.hidden_size)
    for expert, gate in enumerate(columns if n > 1 else [full]):
        inner = _inner(graph, rows, prefix, expert, config)
        y = _outer(graph, inner, prefix, expert, config)
        if isinstance(inner, Codes):
            gate = graph.add("Mul", gate, graph.add("Unsqueeze", inner.scales, graph.ints(1)))
        total = graph.add("Add", total, graph.add("Mul", y, gate))
    return total


def _route(graph: GraphBuilder, x: str, prefix: str, config: NomicConfig) -> list[str]:
    """Gates float32 and experts int64, (n_tokens, top_k) each, best first."""
    weight = graph.weight(f"{prefix}router.layer.weight", config.num_experts, config.hidden_size)
    probabilities = graph.add("Softmax", graph.add("Gemm", x, weight, transB=1), axis=-1)
    gates, chosen = graph.add_many("TopK", [probabilities, graph.ints(config.moe_top_k)], 2, axis=-1)
    if config.normalize_gates:
        gates = graph.add("Div", gates, graph.reduce("ReduceSum", gates, 1))
    return [gates, chosen]


def _inner(graph: GraphBuilder, rows: Rows, prefix: str, expert: int, config: NomicConfig) -> Rows:
    """What lies between an expert's two products."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    span, name = f"[{expert * ffn}:{(expert + 1) * ffn}]", f"{prefix}experts.mlp."
    bias = f"{name}b1{span}" if config.expert_biases else None
    y = linear(graph, rows, f"{name}w1{span}", hidden, ffn, bias=bias, turned=True)
    return quantize(graph, graph.activation(y, config.hidden_act), activation=config.hidden_act)


def _outer(graph: GraphBuilder, inner: Rows, prefix: str, expert: int, config: NomicConfig) -> str:
    """An expert's output, without gate and shared bias, nor scales if it has them."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    weight = f"{prefix}experts.mlp.w2[{expert * ffn}:{(expert + 1) * ffn}]"
    return unscaled(graph, inner, weight, ffn, hidden, turned=False)


def _pool(graph: GraphBuilder, hidden: str, real: str, pooling: str) -> str:
    """(batch, length, hidden) to (batch, hidden)."""
    if pooling == "cls":
        return graph.add("Gather", hidden, graph.number(0, TensorProto.INT64), axis=1)
    weights = graph.add("Cast", real, to=TensorProto.FLOAT)  # (batch, length)
    total = graph.add("MatMul", graph.add("Unsqueeze", weights, graph.ints(1)), hidden)
    count = graph.add("Max", graph.reduce("ReduceSum", weights, 1), graph.number(1e-9))
    return graph.add("Div", graph.add("Squeeze", total, graph.ints(1)), count)
