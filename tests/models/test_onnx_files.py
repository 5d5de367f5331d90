import io

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto

from mretrieve.models.onnx_build import GraphBuilder
from mretrieve.models.onnx_files import embed_weights, refer_to_checkpoint, weight_bytes, write_weights
from mretrieve.models.weights import stored_tensors

TENSORS = {
    "a": np.arange(12, dtype=np.float32).reshape(4, 3),
    "b": np.array([[1, 2, 3]], np.float32),
    "made": np.array([10, 20, 30], np.float32),
}


def model():
    """x + a[1] + a[2] + b + made."""
    graph = GraphBuilder(17)
    x = graph.input("x", TensorProto.FLOAT, 1, 3)
    rows = graph.reduce("ReduceSum", graph.weight("a[1:3]", 2, 3), 0)
    for other in (rows, graph.weight("b", 1, 3), graph.weight("made", 3)):
        x = graph.add("Add", x, other)
    graph.output("y", x, TensorProto.FLOAT, 1, 3)
    return graph.model()


def run(content, folder=None):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = ort.InferenceSession(content.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.zeros((1, 3), np.float32)})[0].tolist()


RESULT = [[3 + 6 + 1 + 10, 4 + 7 + 2 + 20, 5 + 8 + 3 + 30]]


def test_weights_in_the_graph():
    graph = model()
    assert weight_bytes(graph) == 4 * (6 + 3 + 3)
    seen = []
    embed_weights(graph, TENSORS, tell=lambda done, total: seen.append((done, total)))
    assert run(graph) == RESULT
    assert seen == [(0, 3), (1, 3), (2, 3)]
    assert weight_bytes(graph) == 0


def test_weights_in_a_file_beside_it(tmp_path):
    graph, stream = model(), io.BytesIO()
    write_weights(graph, TENSORS, stream, location="weights.bin")
    (tmp_path / "weights.bin").write_bytes(stream.getvalue())
    assert run(graph, tmp_path) == RESULT
    places = [
        {entry.key: entry.value for entry in tensor.external_data} for tensor in graph.graph.initializer
    ]
    offsets = [int(place["offset"]) for place in places if place]
    assert offsets == [0, 4096, 8192]


def test_weights_where_they_lie_already(tmp_path):
    from safetensors.numpy import save_file

    save_file({"b": TENSORS["b"], "a": TENSORS["a"]}, tmp_path / "model.safetensors")
    graph = model()
    refer_to_checkpoint(graph, stored_tensors(tmp_path))
    embed_weights(graph, {"made": TENSORS["made"]})  # the only one that the checkpoint does not hold
    assert run(graph, tmp_path) == RESULT


def test_int8_weights_are_counted_by_their_size():
    graph = GraphBuilder(17)
    graph.weight("w.int8", 5, 7, dtype=TensorProto.INT8)
    x = graph.input("x", TensorProto.FLOAT, 1)
    graph.output("y", x, TensorProto.FLOAT, 1)
    assert weight_bytes(graph.model()) == 35
    with pytest.raises(KeyError):
        embed_weights(graph.model(), {})
