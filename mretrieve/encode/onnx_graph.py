"""Build the ONNX graph of a BERT-like encoder, without its weights.

The weights are given to ONNX Runtime as external initializers when a session starts, straight from the
memory-mapped checkpoint. So the graph is a few kilobytes, and opening a model reads no weight twice.
"""

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from mretrieve.models.bert import BertConfig

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


class Graph:
    """Nodes, and the names, types and shapes of the weights that they read."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, tuple[int, tuple[int, ...]]] = {}

    def node(self, op: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output; returns its name."""
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def split(self, x: str, outputs: Sequence[str]) -> None:
        """Cut the last axis into equal parts."""
        self.nodes.append(helper.make_node("Split", [x], outputs, axis=-1))

    def weight(self, name: str, *shape: int, dtype: int = TensorProto.FLOAT) -> str:
        """Name a weight that comes from outside."""
        self.weights[name] = (dtype, shape)
        return name

    def norm(self, x: str, name: str, config: BertConfig, output: str) -> str:
        """LayerNorm of rows."""
        weights = [self.weight(f"{name}.{part}", config.hidden) for part in ("weight", "bias")]
        return self.node("LayerNormalization", [x, *weights], output, epsilon=config.eps)

    def serialise(
        self, config: BertConfig, constants: dict[str, Sequence[int]], outputs: Sequence[str]
    ) -> bytes:
        """The model, which reads `embedded` and `mask` as `bert_graph` says.

        Args:
            config: the encoder's sizes.
            constants: one-dimensional int64 values.
            outputs: matrices of float32 that the model gives.
        """
        initializers = [
            helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
            for name, values in constants.items()
        ]
        for name, (dtype, shape) in self.weights.items():
            tensor = TensorProto(name=name, data_type=dtype, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="given-at-load")
            initializers.append(tensor)
        inputs = [
            helper.make_tensor_value_info("embedded", TensorProto.FLOAT, ["batch", "length", config.hidden]),
            helper.make_tensor_value_info("mask", TensorProto.INT32, ["batch", "length"]),
        ]
        given = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["tokens", config.hidden])
            for name in outputs
        ]
        body = helper.make_graph(self.nodes, "bert", inputs, given, initializer=initializers)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(body, opset_imports=opsets, ir_version=10, producer_name="mretrieve")
        return bytes(onnx.ModelProto.SerializeToString(model))


def bert_graph(config: BertConfig, *, norms: bool = False) -> bytes:
    """The serialised graph: `embedded` (B, S, hidden) float32, `mask` (B, S) int32.

    `embedded` is the sum of word, position and type embeddings, looked up outside: ONNX Runtime would copy
    the large word table when a session starts. The output `hidden` is (B * S, hidden) float32.
    Initializers carry the names of the checkpoint.

    Args:
        config: the encoder's sizes.
        norms: give besides `hidden` what each norm makes, under the norm's name with `.out` behind it.
    """
    graph, hidden = Graph(), config.hidden
    graph.node("Shape", ["embedded"], "cube")
    graph.node("Reshape", ["embedded", "rows"], "embedded.rows")
    x = graph.norm("embedded.rows", "embeddings.LayerNorm", config, "embeddings.LayerNorm.out")
    for layer in range(config.layers):
        x = _layer(graph, x, f"encoder.layer.{layer}.", config)
    graph.node("Identity", [x], "hidden")
    outputs = [node.output[0] for node in graph.nodes if norms and node.op_type == "LayerNormalization"]
    return graph.serialise(config, {"rows": [-1, hidden]}, ["hidden", *outputs])


def _layer(graph: Graph, x: str, prefix: str, config: BertConfig) -> str:
    hidden = config.hidden
    cubes = []
    for part in ("query", "key", "value"):
        rows = _linear(graph, x, f"{prefix}attention.self.{part}", hidden, hidden)
        cubes.append(graph.node("Reshape", [rows, "cube"], f"{rows}.cube"))
    context = graph.node(
        "MultiHeadAttention",
        [*cubes, "", "mask"],
        f"{prefix}context.cube",
        domain=CONTRIB,
        num_heads=config.heads,
    )
    context = graph.node("Reshape", [context, "rows"], f"{prefix}context")
    out = _linear(graph, context, f"{prefix}attention.output.dense", hidden, hidden)
    x = _norm_after_add(graph, out, x, f"{prefix}attention.output.LayerNorm", config)
    inner = _linear(graph, x, f"{prefix}intermediate.dense", hidden, config.ffn)
    inner = graph.node("Gelu", [inner], f"{prefix}gelu", domain=CONTRIB)
    out = _linear(graph, inner, f"{prefix}output.dense", config.ffn, hidden)
    return _norm_after_add(graph, out, x, f"{prefix}output.LayerNorm", config)


def _linear(graph: Graph, x: str, name: str, n_in: int, n_out: int) -> str:
    """`x W^T + b` over rows."""
    weight, bias = graph.weight(f"{name}.weight", n_out, n_in), graph.weight(f"{name}.bias", n_out)
    return graph.node("Gemm", [x, weight, bias], f"{name}.out", transB=1)


def _norm_after_add(graph: Graph, x: str, residual: str, name: str, config: BertConfig) -> str:
    """LayerNorm of a sum, as post-norm encoders have it; on few rows the operator for both is slower."""
    total = graph.node("Add", [x, residual], f"{name}.sum")
    return graph.norm(total, name, config, f"{name}.out")
