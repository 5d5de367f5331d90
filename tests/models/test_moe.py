import pytest
import torch

from mretrieve.models.moe import MoEMLP
from tests.models.nomic import tiny_config


def layer(**changes):
    torch.manual_seed(1)
    made = MoEMLP(tiny_config(**changes))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return made


def test_without_training_nothing_is_masked():
    x = torch.randn(7, 32)
    with torch.no_grad():
        plain, routing = layer()(x)
        masked, other = layer(expert_output_masking=0.5, final_output_masking=0.5).eval()(x)
    assert torch.equal(plain, masked)
    assert torch.equal(routing.gates, other.gates)


def recorded_gates(module, x):
    """The gates that the experts get to see."""
    seen = []
    hook = module.experts.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].gates))
    with torch.no_grad():
        y, routing = module(x)
    hook.remove()
    return seen[0], y, routing


def test_expert_output_masking_drops_single_experts():
    module = layer(expert_output_masking=0.3).train()
    x = torch.randn(5000, 32)
    torch.manual_seed(2)
    gates, _, routing = recorded_gates(module, x)
    dropped = gates == 0
    assert dropped.float().mean(0).tolist() == pytest.approx([0.3, 0.3], abs=0.02)
    assert dropped.all(1).float().mean().item() == pytest.approx(0.09, abs=0.015)  # one by one
    kept = ~dropped
    torch.testing.assert_close(gates[kept], routing.gates[kept] / 0.7)
    assert (routing.gates > 0).all()  # reported as routed
    assert gates.mean().item() == pytest.approx(routing.gates.mean().item(), rel=0.03)


def test_final_output_masking_drops_all_that_a_token_gets():
    x = torch.randn(5000, 32)
    with torch.no_grad():
        plain, _ = layer()(x)
        torch.manual_seed(2)
        y, _ = layer(final_output_masking=0.2).train()(x)
    dropped = (y == 0).all(1)
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=0.02)
    torch.testing.assert_close(y[~dropped], plain[~dropped] / 0.8)
    assert (y != 0)[~dropped].all()  # never single features


@pytest.mark.parametrize("name", ["expert_output_masking", "final_output_masking"])
def test_masking_is_drawn_from_torchs_random_numbers(name):
    module, x = layer(**{name: 0.5}).train(), torch.randn(20, 32)
    values = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        with torch.no_grad():
            values.append(module(x)[0])
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_masked_experts_get_no_gradient():
    module = layer(expert_output_masking=0.5, moe_top_k=1).train()
    x = torch.randn(5, 32)
    torch.manual_seed(5)
    y, routing = module(x)
    y.sum().backward()
    torch.manual_seed(5)
    gates, _, _ = recorded_gates(module, x)
    working = set(routing.experts[gates > 0].tolist())
    by_expert = module.experts.mlp.w1.grad.view(4, -1).abs().sum(1)
    assert 0 < len(working) < 4, "choose another seed"
    assert {e for e in range(4) if by_expert[e] > 0} == working
