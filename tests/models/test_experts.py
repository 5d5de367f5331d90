import pytest
import torch

from mretrieve.models.experts import DISPATCHES, Experts, dispatch_sorted
from mretrieve.models.moe import MoEMLP
from mretrieve.models.routers import Routing
from tests.models.nomic import tiny_config


def experts(**changes):
    torch.manual_seed(1)
    layer = Experts(tiny_config(**changes))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return layer


def routing_of(chosen, gates):
    chosen = torch.tensor(chosen)
    return Routing(torch.zeros(len(chosen), 4), chosen, torch.tensor(gates))


@pytest.mark.parametrize("name", DISPATCHES)
@pytest.mark.parametrize("biases", [False, True])
@torch.no_grad()
def test_a_token_gets_its_experts_by_their_gates_and_the_bias_once(name, biases):
    layer = experts(hidden_act="relu", expert_biases=biases)
    layer.dispatch = DISPATCHES[name]
    x = torch.randn(3, 32)
    routing = routing_of([[2, 0], [0, 3], [2, 3]], [[0.5, 0.25], [0.75, 0.125], [0.5, 0.5]])
    y = layer(x, routing)
    for row in range(3):
        wanted = layer.bias.clone()
        for e, gate in zip(routing.experts[row].tolist(), routing.gates[row].tolist(), strict=True):
            inner = layer.mlp.w1[e * 40 : (e + 1) * 40] @ x[row]
            if biases:
                inner = inner + layer.mlp.b1[e * 40 : (e + 1) * 40]
            wanted += gate * (inner.clamp(min=0) @ layer.mlp.w2[e * 40 : (e + 1) * 40])
        torch.testing.assert_close(y[row], wanted, rtol=0, atol=1e-5)


def test_all_ways_have_the_same_gradients():
    x = torch.randn(6, 32)
    found = []
    for dispatch in DISPATCHES.values():
        layer = experts()
        layer.dispatch = dispatch
        gates = torch.full((6, 2), 0.3, requires_grad=True)
        chosen = torch.tensor([[0, 1], [1, 3], [3, 0], [1, 0], [0, 3], [3, 1]])
        layer(x, Routing(torch.zeros(6, 4), chosen, gates)).square().sum().backward()
        found.append([gates.grad, layer.mlp.w1.grad, layer.mlp.w2.grad, layer.bias.grad])
    for one in found[1:]:
        for mine, other in zip(one, found[0], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_no_tokens():
    routing = Routing(torch.zeros(0, 4), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2))
    assert dispatch_sorted(torch.zeros(0, 32), experts().mlp, routing).shape == (0, 32)


@torch.no_grad()
def test_bfloat16_stays_bfloat16():
    layer = MoEMLP(tiny_config()).to(torch.bfloat16)
    for parameter in layer.parameters():
        parameter.fill_(0.1)
    y, routing = layer(torch.ones(2, 3, 32, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert y.shape == (2, 3, 32)
    assert routing.experts.shape == (6, 2)
