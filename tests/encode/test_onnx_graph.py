import onnx

from mretrieve.encode.onnx_graph import bert_graph
from mretrieve.models.bert import BertConfig

CONFIG = BertConfig(hidden=32, layers=2, heads=4, ffn=64, eps=1e-12, first_position=0)


def test_the_graph_holds_no_weights_and_names_them_as_the_checkpoint_does():
    model = onnx.load_from_string(bert_graph(CONFIG, int8=False))
    names = {tensor.name for tensor in model.graph.initializer}
    assert "encoder.layer.1.attention.self.query.weight" in names
    assert "embeddings.word_embeddings.weight" not in names  # looked up outside
    assert model.ByteSize() < 20_000


def test_int8_weights_come_with_a_scale_per_output():
    model = onnx.load_from_string(bert_graph(CONFIG, int8=True))
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert shapes["encoder.layer.0.output.dense.weight.int8"] == [64, 32]
    assert shapes["encoder.layer.0.output.dense.weight.scale"] == [32]
