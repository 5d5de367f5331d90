"""Eight bits: weights, smoothing, and how close it stays."""

import numpy as np
import onnx

from mretrieve.encode.onnx_graph import bert_graph
from mretrieve.encode.onnx_int8 import int8_graph, int8_tensors, sample_ids
from mretrieve.models.bert import BertConfig

CONFIG = BertConfig(hidden=32, layers=2, heads=4, ffn=64, eps=1e-12, first_position=0)


def checkpoint_tensors(seed=0):
    rng = np.random.default_rng(seed)
    model = onnx.load_from_string(bert_graph(CONFIG))
    return {
        tensor.name: rng.standard_normal(list(tensor.dims), np.float32)
        for tensor in model.graph.initializer
        if tensor.name.startswith(("encoder.", "embeddings."))
    }


def norm_sizes(value=1.0):
    model = onnx.load_from_string(bert_graph(CONFIG, norms=True))
    return {output.name: np.full(32, value, np.float32) for output in model.graph.output[1:]}


def test_the_graph_reads_just_these_weights():
    made = int8_tensors(CONFIG, checkpoint_tensors(), norm_sizes())
    model = onnx.load_from_string(int8_graph(CONFIG))
    wanted = {one.name: list(one.dims) for one in model.graph.initializer if one.name != "rows"}
    assert {name: list(tensor.shape) for name, tensor in made.items()} == wanted
    assert wanted["encoder.layer.0.attention.self.qkv.int8"] == [32, 96]
    assert wanted["encoder.layer.0.output.dense.scale"] == [32]


def test_codes_times_scale_are_the_weights():
    tensors = checkpoint_tensors()
    made = int8_tensors(CONFIG, tensors, norm_sizes())
    for name, factor in (
        ("encoder.layer.1.output.dense", 1.0),
        ("encoder.layer.1.intermediate.dense", made["encoder.layer.1.intermediate.dense.smooth"]),
    ):
        weight = (made[f"{name}.int8"] * made[f"{name}.scale"]).T * factor
        largest = np.abs(tensors[f"{name}.weight"]).max()
        assert np.abs(weight - tensors[f"{name}.weight"]).max() < largest / 100


def test_a_large_channel_is_made_small_before_it_is_rounded():
    sizes = norm_sizes()
    sizes["embeddings.LayerNorm.out"][3] = 100.0
    smooth = int8_tensors(CONFIG, checkpoint_tensors(), sizes)["encoder.layer.0.attention.self.qkv.smooth"]
    even = np.delete(smooth, 3)
    assert smooth[3] * 100 < 10 * even.mean()
    assert smooth[3] < even.min() / 5


def test_a_layer_of_zeros_divides_by_nothing():
    tensors = checkpoint_tensors() | {"encoder.layer.0.output.dense.weight": np.zeros((32, 64), np.float32)}
    made = int8_tensors(CONFIG, tensors, norm_sizes(0.0))
    assert all(np.isfinite(tensor).all() for tensor in made.values())


def test_sample_ids_are_of_the_vocabulary_and_always_the_same():
    ids = np.concatenate(sample_ids(50))
    assert ids.min() >= 0 and ids.max() < 50
    np.testing.assert_array_equal(ids, np.concatenate(sample_ids(50)))
