import math

import pytest
import torch

from mretrieve.models.dispatch import dispatch_all
from mretrieve.models.experts import Experts, ExpertWeights, activation
from mretrieve.models.moe import MoEMLP
from tests.models.nomic import tiny_config


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("relu", 1.0),
        ("gelu", (1 + math.erf(1 / math.sqrt(2))) / 2),
        ("gelu_pytorch_tanh", (1 + math.tanh(math.sqrt(2 / math.pi) * 1.044715)) / 2),
    ],
)
def test_activations_of_1(name, wanted):
    assert activation(name)(torch.ones(1, dtype=torch.float64)).item() == pytest.approx(wanted, rel=1e-12)


def test_experts_own_consecutive_rows():
    weights = ExpertWeights(tiny_config(expert_biases=True))
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter))
    w1, w2, b1 = weights.split()[2]
    assert torch.equal(w1, weights.w1[80:120])
    assert torch.equal(w2, weights.w2[80:120])
    assert torch.equal(b1, weights.b1[80:120])
    assert w1.data_ptr() == weights.w1[80:].data_ptr()  # no copy


def test_the_way_can_be_exchanged():
    torch.manual_seed(1)
    layer = MoEMLP(tiny_config())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
        x = torch.randn(5, 32)
        wanted, _ = layer(x)
        layer.experts.dispatch = dispatch_all
        found, _ = layer(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_weights_have_the_official_names():
    assert set(Experts(tiny_config()).state_dict()) == {"mlp.w1", "mlp.w2", "bias"}
    assert set(Experts(tiny_config(expert_biases=True)).state_dict()) == {
        "mlp.w1",
        "mlp.w2",
        "mlp.b1",
        "bias",
    }


@torch.no_grad()
def test_bfloat16_stays_bfloat16():
    layer = MoEMLP(tiny_config()).to(torch.bfloat16)
    for parameter in layer.parameters():
        parameter.fill_(0.1)
    y, routing = layer(torch.ones(2, 3, 32, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert y.shape == (2, 3, 32)
    assert routing.experts.shape == (6, 2)
