import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mretrieve.errors import InputError
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from mretrieve.models.register import register
from mretrieve.models.routers import ROUTERS
from mretrieve.models.upcycle import expert_layers, layer_count, upcycle
from tests.models.nomic import official_folder, tiny_config, tiny_model

IDS = torch.tensor([[0, 5, 9, 7, 2], [0, 8, 2, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def states(model):
    with torch.no_grad():
        return model(IDS, MASK).last_hidden_state[MASK.bool()]


def dense_nomic(tmp_path):
    """A dense NomicBert with biases."""
    model = tiny_model(tiny_config(moe_layers=(), num_experts=0, moe_top_k=0))
    tokenizer = official_folder(tmp_path / "tokenizer")
    return save_nomic_moe(model, tmp_path / "dense", tokenizer=tokenizer, official=True)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_exact_gives_the_base_models_embeddings(checkpoint, tmp_path, kind, pooling):
    from sentence_transformers import SentenceTransformer

    register()
    base = checkpoint(kind=kind, pooling=pooling, prompts={"query": "the "})
    model = upcycle(base, moe_layers=expert_layers(2, every=1), num_experts=4)
    folder = save_nomic_moe(model, tmp_path / "sparse", tokenizer=base)
    texts = ["a thing", "the longest sentence of them all", "of"]
    wanted = SentenceTransformer(str(base), device="cpu").encode(texts, prompt_name="query")
    found = SentenceTransformer(str(folder), device="cpu").encode(texts, prompt_name="query")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


ROUTERS_UPCYCLED = {
    "xmoe": {"router_dim": 3},
    "stable": {},
    "sequence": {},
    "language": {"languages": ["de", "sw"]},
    "top_p": {"router_top_p": 0.3},
    "stratified": {},
}


def test_all_routers_are_tested():
    assert {"softmax", *ROUTERS_UPCYCLED} == set(ROUTERS)


@pytest.mark.parametrize("name", ROUTERS_UPCYCLED)
@pytest.mark.parametrize("kind", ["bert", "nomic"])
@torch.no_grad()
def test_exact_is_exact_with_every_router(checkpoint, tmp_path, kind, name):
    from transformers import AutoModel

    options = {"router": name, "num_experts": 4, "top_k": 2} | ROUTERS_UPCYCLED[name]
    if kind == "bert":
        base, layers = checkpoint(kind="xlm-roberta"), (0, 1)
        wanted = AutoModel.from_pretrained(base)(IDS, MASK).last_hidden_state[MASK.bool()]
    else:
        base, layers = dense_nomic(tmp_path), (0, 2)
        wanted = states(load_nomic_moe(base))
    model = upcycle(base, moe_layers=layers, **options)
    torch.testing.assert_close(states(model), wanted, rtol=0, atol=1e-5)
    output = model(IDS, MASK)
    for gates in output.router_gates:
        torch.testing.assert_close(gates.sum(1), torch.ones(len(gates)))
    routers = [model.encoder.layers[i].mlp.router.state_dict() for i in layers]
    assert any(not torch.equal(routers[0][key], routers[1][key]) for key in routers[0])
    again = upcycle(base, moe_layers=layers, **options)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    if kind == "nomic":
        folder = save_nomic_moe(model, tmp_path / "sparse", tokenizer=tmp_path / "tokenizer")
        register()
        for loaded in (load_nomic_moe(folder), AutoModel.from_pretrained(folder)):
            assert loaded.sizes == model.sizes
            torch.testing.assert_close(states(loaded), states(model), rtol=0, atol=1e-6)
    if name == "stable":
        model.set_router_stage(2)
        torch.testing.assert_close(states(model), wanted, rtol=0, atol=1e-5)


def test_exact_keeps_a_dense_nomic_bert(tmp_path):
    base = dense_nomic(tmp_path)
    model = upcycle(base, moe_layers=(1,), num_experts=4, top_k=3)
    assert model.sizes.position_embedding_type == "rotary"
    torch.testing.assert_close(states(model), states(load_nomic_moe(base)), rtol=0, atol=1e-5)
    again = save_nomic_moe(model, tmp_path / "sparse", tokenizer=tmp_path / "tokenizer")
    assert torch.equal(states(load_nomic_moe(again)), states(model))


def test_nomic_loses_the_biases_and_shrinks_the_branch(tmp_path):
    base = dense_nomic(tmp_path)
    dense = load_nomic_moe(base).encoder.layers[1].mlp
    layer = upcycle(base, moe_layers=(1,), num_experts=4, way="nomic").encoder.layers[1].mlp
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y, routing = layer(x)
        plain = F.gelu(x @ dense.fc1.weight.T) @ dense.fc2.weight.T
    torch.testing.assert_close(y, plain * routing.gates.sum(1, keepdim=True), rtol=0, atol=1e-5)
    assert 0.5 < routing.gates.sum(1).mean() < 0.6  # two of four nearly equal experts
    assert layer.experts.bias.abs().sum() == 0
    assert layer.experts.mlp.b1 is None


def test_routers_break_the_symmetry_and_noise_sets_experts_apart(tmp_path):
    base = dense_nomic(tmp_path)
    model = upcycle(base, moe_layers=(0, 2), num_experts=4, noise=0.1)
    routers = [model.encoder.layers[i].mlp.router.layer.weight for i in (0, 2)]
    assert not torch.equal(*routers)
    assert routers[0].std().item() == pytest.approx(0.02, rel=0.3)
    w1 = model.encoder.layers[0].mlp.experts.mlp.w1.view(4, 40, 32)
    fc1 = load_nomic_moe(base).encoder.layers[0].mlp.fc1.weight
    noise = (w1 - fc1).std() / fc1.std()
    assert noise.item() == pytest.approx(0.1, rel=0.1)
    assert not torch.equal(w1[0], w1[1])
    same = upcycle(base, moe_layers=(0, 2), num_experts=4, noise=0.1)
    assert torch.equal(states(same), states(model))
    other = upcycle(base, moe_layers=(0, 2), num_experts=4, noise=0.1, seed=1)
    assert not torch.equal(states(other), states(model))


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({}, (1, 3, 5)),
        ({"every": 1}, (0, 1, 2, 3, 4, 5)),
        ({"every": 3}, (1, 4)),
        ({"every": 1, "last": 2}, (4, 5)),
        ({"last": 3}, (3, 5)),
        ({"every": 1, "last": 9}, (0, 1, 2, 3, 4, 5)),
    ],
)
def test_placement(options, layers):
    assert expert_layers(6, **options) == layers


def test_wrong_options_are_named(tmp_path):
    base = dense_nomic(tmp_path)
    with pytest.raises(InputError, match="every 0 layers is not possible"):
        expert_layers(6, every=0)
    with pytest.raises(InputError, match="No layer would get experts with every 2, last 0"):
        expert_layers(6, last=0)
    with pytest.raises(InputError, match="No layer would get experts with every 1, last -1"):
        expert_layers(6, every=1, last=-1)
    with pytest.raises(InputError, match=r"no 'router_topp'. Did you mean router_top_p\? It takes router"):
        upcycle(base, moe_layers=(1,), router_topp=0.5)
    with pytest.raises(InputError, match="Unknown router 'xmo'. Known, nearest first: xmoe"):
        upcycle(base, moe_layers=(1,), router="xmo")
    with pytest.raises(InputError, match="Unknown way to upcycle 'fast'. Known: exact, nomic"):
        upcycle(base, moe_layers=(1,), way="fast")
    with pytest.raises(InputError, match="noise must be 0 or above"):
        upcycle(base, moe_layers=(1,), noise=-1)
    with pytest.raises(InputError, match=r"moe_top_k must be between 1 and num_experts \(2\), got 3"):
        upcycle(base, moe_layers=(1,), num_experts=2, top_k=3)
    with pytest.raises(InputError, match=r"moe_layers \[7\] must lie between 0 and 2"):
        upcycle(base, moe_layers=(7,))
    with pytest.raises(InputError, match="no layers"):
        upcycle(base, moe_layers=())
    with pytest.raises(InputError, match="has experts already"):
        upcycle(tmp_path / "tokenizer", moe_layers=(1,))
    with pytest.raises(InputError, match=r"has no config\.json"):
        upcycle(tmp_path, moe_layers=(1,))


def test_the_number_of_layers_is_read_from_the_config(checkpoint, tmp_path):
    assert layer_count(checkpoint()) == 2
    assert layer_count(dense_nomic(tmp_path)) == 3
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="does not say how many layers"):
        layer_count(tmp_path)
