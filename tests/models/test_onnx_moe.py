import numpy as np
import pytest
import torch

from mretrieve.models.onnx_moe import encoder_graph, expert_layer_graph
from tests.models.nomic import ABSENT, FIXTURE, tiny_config, tiny_model
from tests.models.onnx_session import batch, by_torch, embeddings, open_graph, tensors_of

VARIANTS = {
    "official": {},
    "upcycled": {
        "position_embedding_type": "absolute",
        "first_position": 2,
        "max_position_embeddings": 140,
        "normalize_gates": True,
        "expert_biases": True,
    },
    "bare": {
        "rotary_interleaved": True,
        "rotary_fraction": 0.5,
        "hidden_act": "relu",
        "moe_top_k": 1,
        "attention_bias": False,
        "fc1_bias": False,
        "fc2_bias": False,
    },
    "dense": {"moe_layers": (), "num_experts": 0, "moe_top_k": 0, "hidden_act": "gelu_pytorch_tanh"},
}
BATCHES = {
    "1x1": batch([1]),
    "1x16": batch([16]),
    "4x33": batch([33] * 4),
    "4x33 padded": batch([33, 1, 20, 7]),
    "overpadded": batch([3, 5], 12),
    "left padded": {
        "input_ids": batch([6, 6])["input_ids"],
        "attention_mask": np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]]),
    },
}


def outputs(session, feed):
    return session.run(["last_hidden_state", "sentence_embedding"], feed)


@pytest.mark.parametrize("opset", [17, 18, 20, 22, 23])
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_equals_torch(variant, opset):
    config = tiny_config(**VARIANTS[variant])
    model = tiny_model(config)
    session = open_graph(encoder_graph(config, opset=opset, pooling="mean"), tensors_of(model))
    for name, feed in BATCHES.items():
        wanted = by_torch(model, feed)
        hidden, embedding = outputs(session, feed)
        np.testing.assert_allclose(hidden, wanted, rtol=0, atol=1e-5, err_msg=name)
        wanted = embeddings(wanted, feed["attention_mask"])
        np.testing.assert_allclose(embedding, wanted, rtol=0, atol=1e-6, err_msg=name)


def test_a_large_batch():
    config = tiny_config(max_position_embeddings=128)
    model = tiny_model(config)
    session = open_graph(encoder_graph(config, opset=23, pooling="mean"), tensors_of(model))
    lengths = np.random.default_rng(3).integers(1, 129, 32)
    for feed in (batch([128] * 32), batch([*lengths[1:], 128])):
        wanted = by_torch(model, feed)
        hidden, embedding = outputs(session, feed)
        np.testing.assert_allclose(hidden, wanted, rtol=0, atol=2e-5)
        wanted = embeddings(wanted, feed["attention_mask"])
        np.testing.assert_allclose(embedding, wanted, rtol=0, atol=1e-6)


@pytest.mark.skipif(not FIXTURE.exists(), reason=ABSENT)
@pytest.mark.parametrize("opset", [20, 23])
@pytest.mark.parametrize("name", ["mixed", "overpadded", "long", "left_padded", "mixed_garbage_pads"])
def test_the_reference_activations(name, opset):
    from mretrieve.models.nomic_files import load_nomic_moe

    model = load_nomic_moe(FIXTURE)
    session = open_graph(encoder_graph(model.sizes, opset=opset, pooling="mean"), tensors_of(model))
    with np.load(FIXTURE / "reference" / f"{name}.npz") as wanted:
        feed = {key: wanted[key].astype(np.int64) for key in ("input_ids", "attention_mask")}
        hidden, embedding = outputs(session, feed)
        real = feed["attention_mask"] == 1
        np.testing.assert_allclose(hidden[real], wanted["last_hidden_state"][real], rtol=0, atol=5e-5)
        np.testing.assert_allclose(embedding, wanted["embeddings"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("opset", [17, 23])
def test_experts_without_tokens(opset, sparse):
    config = tiny_config(num_experts=32, moe_top_k=3)  # two tokens use six of them at most
    model = tiny_model(config)
    session = open_graph(encoder_graph(config, opset=opset, sparse=sparse), tensors_of(model))
    feed = batch([2])
    hidden = session.run(None, feed)[0]
    np.testing.assert_allclose(hidden, by_torch(model, feed), rtol=0, atol=1e-5)


def test_only_routed_experts_are_computed():
    config = tiny_config(moe_layers=(1,), num_experts=16)
    model = tiny_model(config)
    feed = batch([5])
    with torch.no_grad():
        output = model(torch.from_numpy(feed["input_ids"]))
        chosen = set(output.router_experts[0].flatten().tolist())
        wanted = output.last_hidden_state.numpy()
        w2 = model.encoder.layers[1].mlp.experts.mlp.w2.view(16, -1, 32)
        for expert in set(range(16)) - chosen:
            w2[expert] = float("nan")
    tensors = tensors_of(model)
    sparse, full = (
        open_graph(encoder_graph(config, opset=23, sparse=sparse), tensors).run(None, feed)[0]
        for sparse in (True, False)
    )
    np.testing.assert_allclose(sparse, wanted, rtol=0, atol=1e-5)
    assert np.isnan(full).all()


def test_padding_is_not_computed():
    config = tiny_config()
    model = tiny_model(config)
    feed = batch([4, 2], 7)
    feed["input_ids"] = np.where(feed["attention_mask"], feed["input_ids"] % 40, 47)
    wanted = by_torch(model, feed)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[47] = float("nan")
    hidden, embedding = outputs(
        open_graph(encoder_graph(config, opset=23, pooling="mean"), tensors_of(model)), feed
    )
    np.testing.assert_allclose(hidden, wanted, rtol=0, atol=1e-5)  # 0 on padding
    assert np.isfinite(embedding).all()


@pytest.mark.parametrize("opset", [17, 23])
def test_a_text_without_any_token_disturbs_nobody(opset):
    config = tiny_config()
    model = tiny_model(config)
    feed = batch([3, 0, 5])
    hidden, embedding = outputs(
        open_graph(encoder_graph(config, opset=opset, pooling="mean"), tensors_of(model)), feed
    )
    np.testing.assert_allclose(hidden[[0, 2]], by_torch(model, feed)[[0, 2]], rtol=0, atol=1e-5)
    assert np.isfinite(hidden).all()
    assert np.isfinite(embedding).all()
    nobody = batch([0, 0], 4)
    assert np.isfinite(outputs_of(config, model, nobody)).all()


def outputs_of(config, model, feed):
    return open_graph(encoder_graph(config, opset=23), tensors_of(model)).run(None, feed)[0]


def test_other_poolings():
    config = tiny_config()
    model = tiny_model(config)
    feed = batch([5, 3])
    wanted = by_torch(model, feed)
    for normalize in (True, False):
        graph = encoder_graph(config, opset=23, pooling="cls", normalize=normalize)
        first = outputs(open_graph(graph, tensors_of(model)), feed)[1]
        scale = np.linalg.norm(wanted[:, 0], axis=1, keepdims=True) if normalize else 1.0
        np.testing.assert_allclose(first, wanted[:, 0] / scale, rtol=0, atol=1e-5)
    mean = encoder_graph(config, opset=23, pooling="mean", normalize=False)
    found = outputs(open_graph(mean, tensors_of(model)), feed)[1]
    np.testing.assert_allclose(found, wanted.sum(1) / np.array([[5], [3]]), rtol=0, atol=1e-5)
    none = open_graph(encoder_graph(config, opset=23), tensors_of(model))
    assert [output.name for output in none.get_outputs()] == ["last_hidden_state"]


@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("variant", ["official", "upcycled"])
def test_int8_is_close_and_not_equal(variant, opset):
    config = tiny_config(**VARIANTS[variant], moe_top_k=4)  # else rounding changes who goes where
    model = tiny_model(config)
    session = open_graph(encoder_graph(config, opset=opset, int8=True, pooling="mean"), tensors_of(model))
    for feed in BATCHES.values():
        wanted = embeddings(by_torch(model, feed), feed["attention_mask"])
        cosine = (outputs(session, feed)[1] * wanted).sum(axis=1)
        assert 0.998 < cosine.min() < 1 - 1e-7


@pytest.mark.parametrize("sparse", [True, False])
def test_a_layer_alone(sparse):
    config = tiny_config(moe_layers=(0,), num_hidden_layers=1)
    model = tiny_model(config)
    session = open_graph(expert_layer_graph(config, opset=23, sparse=sparse), tensors_of(model))
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model.encoder.layers[0].mlp(x)[0].numpy()
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], wanted, rtol=0, atol=1e-5)
