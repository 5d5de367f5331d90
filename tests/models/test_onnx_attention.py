import numpy as np
import pytest
import torch
from onnx import TensorProto

from mretrieve.models.attention import Attention, PaddedLayout, rotary_for
from mretrieve.models.onnx_attention import attention, lay_out, padding_mask
from mretrieve.models.onnx_build import GraphBuilder
from mretrieve.models.onnx_weights import graph_tensors
from tests.models.nomic import tiny_config
from tests.models.onnx_session import open_graph

ROTARY = [
    {},
    {"rotary_interleaved": True},
    {"rotary_fraction": 0.5},
    {"rotary_fraction": 0.5, "rotary_interleaved": True},
    {"position_embedding_type": "absolute"},
]


@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("changes", ROTARY)
def test_rows_attend_to_their_own_text(opset, changes):
    config = tiny_config(**changes)
    torch.manual_seed(1)
    layer = Attention(config)
    visible = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
    x = torch.randn(3, 4, config.hidden_size)
    layout = PaddedLayout(torch.from_numpy(visible), shape=(3, 4), device=x.device)
    with torch.no_grad():
        wanted = layer(x, layout, rotary_for(layout, config)).numpy()[visible]
    graph = GraphBuilder(opset)
    rows = graph.input("x", TensorProto.FLOAT, "tokens", config.hidden_size)
    names = {
        name: graph.input(name, dtype, *shape)
        for name, dtype, shape in (
            ("row_of", TensorProto.INT64, ("batch", "length")),
            ("place_of", TensorProto.INT64, ("tokens",)),
            ("positions", TensorProto.INT64, ("tokens",)),
            ("visible", TensorProto.BOOL, ("batch", "length")),
        )
    }
    y = attention(graph, rows, "", lay_out(graph, config, **names), config)
    graph.output("y", y, TensorProto.FLOAT, "tokens", config.hidden_size)
    weights = {name: tensor.detach().numpy() for name, tensor in layer.state_dict().items()}
    feed = {
        "x": x.numpy()[visible],
        "row_of": np.maximum(visible.cumsum() - 1, 0).reshape(3, 4),
        "place_of": np.flatnonzero(visible),
        "positions": np.nonzero(visible)[1],
        "visible": visible,
    }
    found = open_graph(graph, graph_tensors(config, weights)).run(None, feed)[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("opset", [17, 23])
def test_a_text_of_nothing_sees_its_padding(opset):
    graph = GraphBuilder(opset)
    pair = padding_mask(graph, graph.input("mask", TensorProto.INT64, "batch", "length"))
    for name, value in zip(("real", "seen"), pair, strict=True):
        graph.output(name, value, TensorProto.BOOL, "batch", "length")
    real, seen = open_graph(graph, {}).run(None, {"mask": np.array([[1, 0], [0, 0]])})
    assert real.tolist() == [[True, False], [False, False]]
    assert seen.tolist() == [[True, False], [True, True]]
