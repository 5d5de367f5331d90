import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto

from mretrieve.models.onnx_build import GraphBuilder
from mretrieve.models.onnx_files import embed_weights
from mretrieve.models.onnx_linear import Codes, add_unit, linear, quantize, split, take, unscaled
from tests.models.onnx_session import LEVELS, open_graph

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 32), np.float32)
TENSORS = {
    "w": RNG.standard_normal((24, 32), np.float32),
    "v": RNG.standard_normal((32, 24), np.float32),
    "b": RNG.standard_normal(24, np.float32) * 10,
}


def run(make, x=X, *, int8, opset=23, level=LEVELS.ORT_ENABLE_ALL, n_out=24):
    """What the graph that `make` adds to gives for x."""
    graph = GraphBuilder(opset, int8=int8)
    name = graph.input("x", TensorProto.FLOAT, "rows", x.shape[1])
    add_unit(graph, name)
    graph.output("y", make(graph, name), TensorProto.FLOAT, "rows", n_out)
    return open_graph(graph, TENSORS, level=level).run(None, {"x": x})[0]


def product(weight="w", bias="b"):
    turned = weight == "w"
    return lambda graph, x: linear(graph, quantize(graph, x), weight, 32, 24, bias=bias, turned=turned)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("bias", ["b", None])
@pytest.mark.parametrize("weight", ["w", "v"])
def test_a_product(weight, bias, int8):
    matrix = TENSORS["w"].T if weight == "w" else TENSORS["v"]
    wanted = X @ matrix + (TENSORS["b"] if bias else 0.0)
    found = run(product(weight, bias), int8=int8)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0.25 if int8 else 1e-5)
    assert np.array_equal(found, wanted) != int8 or not int8


@pytest.mark.parametrize("opset", [17, 23])
def test_int8_with_and_without_the_runtimes_optimisations(opset):
    """ONNX Runtime joins products, scales and bias; with scales per row it used to spoil the bias."""
    plain, fused = (
        run(product(), int8=True, opset=opset, level=level)
        for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_ALL)
    )
    np.testing.assert_allclose(fused, plain, rtol=0, atol=1e-4)


def test_a_huge_token_takes_no_steps_from_the_others():
    huge = X.copy()
    huge[2] *= 1000
    alone, together = run(product(), int8=True), run(product(), huge, int8=True)
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(together[others], alone[others])
    wanted = huge[2] @ TENSORS["w"].T
    assert np.abs(together[2] - TENSORS["b"] - wanted).max() < 0.01 * np.abs(wanted).max()


def test_rows_of_zeros_and_no_rows():
    zeros = run(product(), np.zeros((2, 32), np.float32), int8=True)
    np.testing.assert_allclose(zeros, np.stack([TENSORS["b"]] * 2), atol=1e-6)
    assert run(product(), X[:0], int8=True).shape == (0, 24)


def decoded(x, activation):
    """What is left of x as codes."""

    def make(graph, name):
        rows = quantize(graph, name, activation=activation)
        assert isinstance(rows, Codes)
        codes = graph.add("Cast", rows.codes, to=TensorProto.FLOAT)
        centred = graph.add("Sub", codes, graph.number(float(rows.zero)))
        return graph.add("Mul", centred, graph.add("Unsqueeze", rows.scales, graph.ints(1)))

    return run(make, x, int8=True, n_out=32)


def test_codes_of_both_signs_are_within_half_a_step():
    steps = np.abs(X).max(axis=1, keepdims=True) / 127
    assert (np.abs(decoded(X, None) - X) <= steps * 0.5001).all()


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh", "relu"])
def test_codes_of_activations_use_more_steps_for_what_is_above_0(activation):
    approximate = "tanh" if activation.endswith("tanh") else "none"
    act = F.relu if activation == "relu" else lambda t: F.gelu(t, approximate=approximate)
    x = act(torch.from_numpy(X) * 3).numpy()
    x = np.concatenate([x, x * 0.01])  # rows whose largest value is below GELU's least
    above = 255 if activation == "relu" else 207
    below = 0.0 if activation == "relu" else 0.1701 / 48
    steps = np.maximum(x.max(axis=1, keepdims=True) / above, below)
    assert (np.abs(decoded(x, activation) - x) <= steps * 0.501).all()


@pytest.mark.parametrize("int8", [False, True])
def test_rows_are_taken_in_order(int8):
    def make(graph, name):
        index, counts = graph.ints(4, 0, 4, 5), graph.ints(3, 0, 1)
        parts = split(graph, index, counts, 3)
        groups = take(graph, quantize(graph, name), index, parts, counts)
        done = [linear(graph, rows, "w", 32, 24, bias="b", turned=True) for rows in groups]
        return graph.add("Concat", *reversed(done), axis=0)

    found, whole = run(make, int8=int8), run(product(), int8=int8)
    np.testing.assert_allclose(found, whole[[5, 4, 0, 4]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("int8", [False, True])
def test_scales_may_be_applied_later(int8):
    def make(graph, name):
        rows = quantize(graph, name)
        y = unscaled(graph, rows, "v", 32, 24, turned=False)
        return (
            y
            if isinstance(rows, str)
            else graph.add("Mul", y, graph.add("Unsqueeze", rows.scales, graph.ints(1)))
        )

    np.testing.assert_allclose(run(make, int8=int8), run(product("v", None), int8=int8), rtol=0, atol=1e-5)


def test_a_bias_before_gelu_stays_apart(tmp_path):
    """ONNX Runtime's joined kernel takes longer than the two."""
    graph = GraphBuilder(23, int8=True)
    name = graph.input("x", TensorProto.FLOAT, "rows", 32)
    add_unit(graph, name)
    y = linear(graph, quantize(graph, name), "w", 32, 24, bias="b", turned=True)
    graph.output("y", graph.activation(y, "gelu"), TensorProto.FLOAT, "rows", 24)
    made = graph.model()
    embed_weights(made, TENSORS)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert {"MatMulIntegerToFloat", "Gelu"} <= found
