import onnx

from mretrieve.encode.onnx_graph import bert_graph
from mretrieve.models.bert import BertConfig

CONFIG = BertConfig(hidden=32, layers=2, heads=4, ffn=64, eps=1e-12, first_position=0)


def test_the_graph_holds_no_weights_and_names_them_as_the_checkpoint_does():
    model = onnx.load_from_string(bert_graph(CONFIG))
    names = {tensor.name for tensor in model.graph.initializer}
    assert "encoder.layer.1.attention.self.query.weight" in names
    assert "embeddings.word_embeddings.weight" not in names  # looked up outside
    assert model.ByteSize() < 20_000


def test_the_output_of_each_norm_can_be_had():
    model = onnx.load_from_string(bert_graph(CONFIG, norms=True))
    names = [output.name for output in model.graph.output]
    assert names[:2] == ["hidden", "embeddings.LayerNorm.out"]
    assert len(names) == 2 + 2 * CONFIG.layers
