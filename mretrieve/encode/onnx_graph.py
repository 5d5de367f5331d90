"""Build the ONNX graph of a BERT-like encoder, without its weights.

The weights are given to ONNX Runtime as external initializers when a session starts, straight from the
memory-mapped checkpoint. So the graph is a few kilobytes, and opening a model reads no weight twice.
"""

from typing import Any

import onnx
from onnx import TensorProto, helper

from mretrieve.models.bert import BertConfig

_CONTRIB = "com.microsoft"


class _Graph:
    def __init__(self, *, int8: bool) -> None:
        self.int8 = int8
        self.nodes: list[Any] = []
        self.weights: dict[str, tuple[int, tuple[int, ...]]] = {}

    def node(self, op: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def weight(self, name: str, *shape: int, dtype: int = TensorProto.FLOAT) -> str:
        self.weights[name] = (dtype, shape)
        return name

    def linear(self, x: str, name: str, n_in: int, n_out: int) -> str:
        """`x W^T + b` over rows; in int8 the rows of x are quantised on the fly, W per output."""
        bias = self.weight(f"{name}.bias", n_out)
        if not self.int8:
            weight = self.weight(f"{name}.weight", n_out, n_in)
            return self.node("Gemm", [x, weight, bias], f"{name}.out", transB=1)
        weight = self.weight(f"{name}.weight.int8", n_in, n_out, dtype=TensorProto.INT8)
        scale = self.weight(f"{name}.weight.scale", n_out)
        return self.node(
            "DynamicQuantizeMatMul", [x, weight, scale, "", bias], f"{name}.out", domain=_CONTRIB
        )

    def norm_after_add(self, x: str, residual: str, name: str, hidden: int, eps: float) -> str:
        """LayerNorm of a sum, as post-norm encoders have it."""
        weight, bias = self.weight(f"{name}.weight", hidden), self.weight(f"{name}.bias", hidden)
        return self.node(
            "SkipLayerNormalization",
            [x, residual, weight, bias],
            f"{name}.out",
            domain=_CONTRIB,
            epsilon=eps,
        )


def bert_graph(config: BertConfig, *, int8: bool) -> bytes:
    """The serialised graph: `embedded` (B, S, hidden) float32, `mask` (B, S) int32.

    `embedded` is the sum of word, position and type embeddings, looked up outside: ONNX Runtime would copy
    the large word table when a session starts. The output `hidden` is (B * S, hidden) float32.
    Initializers carry the names of the checkpoint.

    Args:
        config: the encoder's sizes.
        int8: weights in int8 with one scale per output, activations quantised per tensor.
    """
    graph, hidden = _Graph(int8=int8), config.hidden
    graph.node("Shape", ["embedded"], "cube")
    graph.node("Reshape", ["embedded", "rows"], "embedded.rows")
    norm = [graph.weight(f"embeddings.LayerNorm.{part}", hidden) for part in ("weight", "bias")]
    x = graph.node("LayerNormalization", ["embedded.rows", *norm], "embeddings.out", epsilon=config.eps)
    for layer in range(config.layers):
        x = _layer(graph, x, f"encoder.layer.{layer}.", config)
    graph.node("Identity", [x], "hidden")
    return _serialise(graph, hidden)


def _layer(graph: _Graph, x: str, prefix: str, config: BertConfig) -> str:
    hidden = config.hidden
    cubes = []
    for part in ("query", "key", "value"):
        rows = graph.linear(x, f"{prefix}attention.self.{part}", hidden, hidden)
        cubes.append(graph.node("Reshape", [rows, "cube"], f"{rows}.cube"))
    context = graph.node(
        "MultiHeadAttention",
        [*cubes, "", "mask"],
        f"{prefix}context.cube",
        domain=_CONTRIB,
        num_heads=config.heads,
    )
    context = graph.node("Reshape", [context, "rows"], f"{prefix}context")
    out = graph.linear(context, f"{prefix}attention.output.dense", hidden, hidden)
    x = graph.norm_after_add(out, x, f"{prefix}attention.output.LayerNorm", hidden, config.eps)
    inner = graph.linear(x, f"{prefix}intermediate.dense", hidden, config.ffn)
    inner = graph.node("Gelu", [inner], f"{prefix}gelu", domain=_CONTRIB)
    out = graph.linear(inner, f"{prefix}output.dense", config.ffn, hidden)
    return graph.norm_after_add(out, x, f"{prefix}output.LayerNorm", hidden, config.eps)


def _serialise(graph: _Graph, hidden: int) -> bytes:
    initializers = [helper.make_tensor("rows", TensorProto.INT64, [2], [-1, hidden])]
    for name, (dtype, shape) in graph.weights.items():
        tensor = TensorProto(name=name, data_type=dtype, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="given-at-load")
        initializers.append(tensor)
    inputs = [
        helper.make_tensor_value_info("embedded", TensorProto.FLOAT, ["batch", "length", hidden]),
        helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "length"]),
    ]
    outputs = [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["tokens", hidden])]
    body = helper.make_graph(graph.nodes, "bert", inputs, outputs, initializer=initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_CONTRIB, 1)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=10, producer_name="mretrieve")
    return bytes(onnx.ModelProto.SerializeToString(model))
