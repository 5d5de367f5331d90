import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto

from mretrieve.models.onnx_build import MAX_OPSET, MIN_OPSET, UNPLACED, GraphBuilder
from tests.models.onnx_session import open_graph

X = np.linspace(-4, 4, 22, dtype=np.float32).reshape(2, 11)


def run(opset, make):
    graph = GraphBuilder(opset)
    graph.output(
        "y", make(graph, graph.input("x", TensorProto.FLOAT, "rows", 11)), TensorProto.FLOAT, "rows", "n"
    )
    return open_graph(graph, {}).run(None, {"x": X})[0]


@pytest.mark.parametrize("opset", [MIN_OPSET, 19, 20, MAX_OPSET])
@pytest.mark.parametrize("name", ["gelu", "gelu_pytorch_tanh", "relu"])
def test_activations(opset, name):
    x = torch.from_numpy(X)
    approximate = "tanh" if name.endswith("tanh") else "none"
    wanted = F.relu(x) if name == "relu" else F.gelu(x, approximate=approximate)
    found = run(opset, lambda graph, x: graph.activation(x, name))
    np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("opset", [MIN_OPSET, 18])
@pytest.mark.parametrize(
    ("op", "numpy"), [("ReduceMax", np.max), ("ReduceMin", np.min), ("ReduceSum", np.sum)]
)
def test_reductions(opset, op, numpy):
    found = run(opset, lambda graph, x: graph.reduce(op, x, 1))
    np.testing.assert_allclose(found, numpy(X, axis=1, keepdims=True), atol=1e-6)


def test_constants_are_stored_once_and_weights_not_at_all():
    graph = GraphBuilder(23)
    x = graph.input("x", TensorProto.FLOAT, "rows", 11)
    for _ in range(2):
        x = graph.add("Mul", x, graph.number(0.5))
    x = graph.add("Gemm", x, graph.weight("w", 7, 11), transB=1)
    graph.output("y", graph.add("Reshape", x, graph.ints(-1, 7)), TensorProto.FLOAT, "rows", 7)
    model = graph.model()
    places = {
        tensor.name: [entry.value for entry in tensor.external_data] for tensor in model.graph.initializer
    }
    assert places == {"number_float_0.5": [], "ints_-1_7": [], "w": [UNPLACED]}
    assert model.opset_import[0].version == 23
    assert model.ir_version >= onnx.helper.find_min_ir_version_for(model.opset_import)
