import logging

import pytest
import torch
import torch.nn.functional as F

from mretrieve.models import packed
from mretrieve.models.dispatch import dispatch_all
from mretrieve.models.moe import MoEMLP
from mretrieve.models.packed import PackedExperts, few_sizes, group_by_expert, linear, pack_experts
from tests.models.nomic import tiny_config

ACTIVATIONS = {
    None: lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(*shape, seed=1, spread=0.3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 5, 130])
def test_a_packed_layer_is_a_linear_layer(act, bias, rows):
    x, weight = normal(rows, 48, seed=2), normal(40, 48)
    b = normal(40, seed=3) if bias else None
    found = linear(weight, b, act=act)(x)
    torch.testing.assert_close(found, ACTIVATIONS[act](F.linear(x, weight, b)), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_residual_is_added(dtype):
    x, weight = normal(7, 16).to(dtype), normal(24, 16, seed=2).to(dtype)
    residual = normal(7, 24, seed=3).to(dtype)
    before = residual.clone()
    found = linear(weight, None)(x, residual)
    wanted = F.linear(x.float(), weight.float()) + residual.float()
    torch.testing.assert_close(found.float(), wanted, rtol=0.01, atol=0.01)
    assert found.dtype == dtype
    assert torch.equal(residual, before)


def wrong(*_, **__):
    return lambda x, residual=None: torch.ones(len(x), 40, dtype=x.dtype)


def refuse(*_, **__):
    raise RuntimeError("no such kernel")


@pytest.mark.parametrize(("broken", "reason"), [(wrong, "not close"), (refuse, "no such kernel")])
def test_packed_layers_that_fail_or_err_are_not_used(monkeypatch, caplog, broken, reason):
    monkeypatch.setattr(packed, "_pack", broken)
    x, weight = normal(3, 48, seed=2), normal(40, 48)
    with caplog.at_level(logging.WARNING):
        layer = linear(weight, None, act="relu")
    assert reason in caplog.text
    assert torch.equal(layer(x), F.relu(F.linear(x, weight)))


def test_a_wrong_sum_with_the_residual_is_noticed(monkeypatch, caplog):
    monkeypatch.setattr(packed, "_pack", lambda w, b, act: lambda x, residual=None: F.linear(x, w, b))
    x, weight, residual = normal(3, 48, seed=2), normal(40, 48), normal(3, 40, seed=3)
    layer = linear(weight, None)
    torch.testing.assert_close(layer(x, residual), F.linear(x, weight) + residual)
    assert "not close" in caplog.text


def test_tokens_are_grouped_by_expert():
    experts = torch.tensor([[2, 0], [0, 3], [3, 2], [0, 2], [0, 2]])
    tokens, rows, sizes = group_by_expert(experts, torch.ones(5, 2), n_experts=5)
    assert sizes == [4, 0, 4, 4, 0]  # groups of 4, 4 and 2 tokens
    assert tokens.tolist() == [0, 1, 3, 4, 0, 2, 3, 4, 1, 2, 0, 0]
    assert rows.tolist() == [[4, 0], [1, 8], [9, 5], [2, 6], [3, 7]]


def test_slots_without_a_gate_are_in_no_group():
    experts = torch.tensor([[0, 1], [1, 0]])
    gates = torch.tensor([[0.5, 0.0], [0.5, 0.2]])
    tokens, rows, sizes = group_by_expert(experts, gates, n_experts=2)
    assert sizes == [4, 4]
    assert tokens.tolist() == [0, 1, 0, 0, 1, 0, 0, 0]
    assert rows.tolist() == [[0, 0], [4, 1]]


@pytest.mark.parametrize("n", [*range(130), 1000, 1024, 4097])
def test_groups_have_few_sizes_and_little_filling(n):
    (size,) = group_by_expert(torch.zeros(n, 1, dtype=torch.long), torch.ones(n, 1), n_experts=1)[2]
    assert n <= size < n + max(4, n / 32 + 1)
    assert size % 4 == 0


@pytest.mark.parametrize("n_tokens", [0, 1, 3, 50])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalize_gates": True, "expert_biases": True},
        {"moe_top_k": 1, "hidden_act": "relu"},
        {"moe_top_k": 4, "hidden_act": "gelu_pytorch_tanh"},
        {"router": "xmoe", "router_dim": 3},
        {"router": "top_p", "router_top_p": 0.3},
        {"router": "stratified"},
    ],
    ids=str,
)
@torch.no_grad()
def test_packed_experts_agree_with_running_all_of_them(changes, n_tokens):
    x = normal(n_tokens, 32, seed=4, spread=1.0)
    layer = moe_layer(**changes)
    layer.experts.dispatch = dispatch_all
    torch.testing.assert_close(pack(layer)(x), x + layer(x)[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_equal_scores_choose_as_the_router_does():
    layer = moe_layer()
    layer.router.layer.weight[1:] = layer.router.layer.weight[:1]  # four experts for the same tokens
    x = normal(9, 32, seed=4, spread=1.0)
    torch.testing.assert_close(pack(layer)(x), x + layer(x)[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_in_bfloat16_all_is_summed_before_it_is_rounded():
    layer = moe_layer()
    x = normal(40, 32, seed=4, spread=1.0).bfloat16()
    exact = x.float() + layer.bfloat16().float()(x.float())[0]
    found = pack(layer, torch.bfloat16)(x)
    assert found.dtype == torch.bfloat16
    # Within the weights' and the inner layer's rounding; the sum itself adds half a unit in the last place.
    torch.testing.assert_close(found.float(), exact, rtol=2**-7, atol=2e-2)


def moe_layer(**changes):
    torch.manual_seed(3)
    layer = MoEMLP(tiny_config(**changes)).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return layer


def pack(layer, dtype=torch.float32):
    weights = layer.experts.mlp
    name = layer.experts.mlp.act
    act = next(key for key, one in ACTIVATIONS.items() if key and _same(one, name))
    experts = pack_experts(
        weights.w1, weights.w2, weights.b1, n_experts=weights.n_experts, act=act, dtype=dtype
    )
    return PackedExperts(layer.router, experts, layer.experts.bias.to(dtype))


def _same(one, other):
    x = torch.linspace(-3, 3, 50)
    return torch.equal(one(x), other(x))


def test_few_sizes_are_no_smaller_and_close():
    sizes = {few_sizes(n, bits=5, step=32) for n in range(65, 4097)}
    assert len(sizes) == 62
    assert all(0 <= few_sizes(n, bits=5, step=32) - n < max(32, n / 16) for n in range(65, 4097))
    assert [few_sizes(n, bits=3) for n in (1, 7, 9, 10, 17)] == [1, 7, 10, 10, 20]
