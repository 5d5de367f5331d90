import pytest
import torch

from mretrieve.models import nomic_config
from mretrieve.models.routers import ROUTERS, RoutingContext, make_router
from tests.models.nomic import tiny_config

LENGTHS = [4, 4, 1, 3]


def config_for(name, **changes):
    return tiny_config(router=name, languages=("de", "sw"), **changes)


def random_router(name, **changes):
    """With values so large that choices are clear."""
    router = make_router(config_for(name, **changes)).eval()
    generator = torch.Generator().manual_seed(3)
    router.reset(1.0, generator)
    return router


def batch(seed=5):
    """States and context of a packed batch."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(12, 32, generator=generator)
    context = RoutingContext.packed(torch.arange(12), LENGTHS, torch.tensor([1, 2, 0, 1]))
    return x, vars(context) | {"light_table": torch.randn(12, 50, generator=generator)}


def route(router, x, context):
    return router(x, RoutingContext(**context))


def one_hot_router(**changes):
    """A router whose logits are the first four features."""
    router = make_router(tiny_config(**changes))
    with torch.no_grad():
        router.layer.weight.copy_(torch.eye(4, 32))
    return router


def token(*logits):
    return torch.tensor([[*logits, *[0.0] * 28]])


def test_softmax_gates_are_those_over_all_experts():
    x = token(0.0, 3.0, 1.0, 2.0).log1p()  # 1 + x: 1, 4, 2, 3
    routing = one_hot_router()(x)
    assert routing.experts.tolist() == [[1, 3]]
    assert routing.gates[0].tolist() == pytest.approx([0.4, 0.3])
    assert routing.logits.shape == (1, 4)


def test_normalized_gates_sum_to_1():
    routing = one_hot_router(normalize_gates=True)(token(0.0, 3.0, 1.0, 2.0).log1p())
    assert routing.gates[0].tolist() == pytest.approx([4 / 7, 3 / 7])


def test_the_config_knows_all_routers():
    assert set(nomic_config.ROUTERS) == set(ROUTERS)


def test_plain_routing_makes_no_context():
    assert {name for name, router in ROUTERS.items() if router.needs_context} == {
        "stable",
        "sequence",
        "language",
    }


@pytest.mark.parametrize("name", [name for name, router in ROUTERS.items() if router.needs_context])
def test_a_missing_context_is_named(name):
    with pytest.raises(ValueError, match="give it a RoutingContext"):
        make_router(config_for(name))(torch.zeros(1, 32))


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_tokens_experts_are_valid_and_different(name, normalize):
    routing = route(random_router(name, normalize_gates=normalize), *batch())
    assert routing.experts.shape == routing.gates.shape == (12, 2)
    assert routing.logits.shape == (12, 4)
    assert routing.experts.min() >= 0 and routing.experts.max() < 4
    assert (routing.experts[:, 0] != routing.experts[:, 1]).all()
    assert (routing.gates[:, 0] > 0).all() and (routing.gates >= 0).all()
    if normalize:
        torch.testing.assert_close(routing.gates.sum(1), torch.ones(12))


@pytest.mark.parametrize("name", ROUTERS)
def test_arithmetic_is_float32(name):
    x, context = batch()
    router = random_router(name).to(torch.bfloat16)
    context["light_table"] = context["light_table"].to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        routing = route(router, x.to(torch.bfloat16), context)
    assert routing.logits.dtype == routing.gates.dtype == torch.float32
    # The same weights and states in float32 give the same, bit by bit.
    context["light_table"] = context["light_table"].float()
    again = route(router.float(), x.to(torch.bfloat16).float(), context)
    assert all(torch.equal(a, b) for a, b in zip(routing[:3], again[:3], strict=True))


@pytest.mark.parametrize("name", ROUTERS)
def test_routing_repeats_itself(name):
    first, second = (route(random_router(name), *batch()) for _ in range(2))
    assert torch.equal(first.experts, second.experts) and torch.equal(first.gates, second.gates)


def gate_loss(routing):
    """A value that depends on which expert has which gate."""
    return (routing.gates * torch.tensor([0.3, -1.0, 0.7, 2.0])[routing.experts]).sum()


@pytest.mark.parametrize("name", ROUTERS)
def test_gradients_are_the_slopes(name):
    x, context = batch()
    router = random_router(name)
    generator = torch.Generator().manual_seed(7)
    for parameter_name, parameter in router.named_parameters():
        if parameter_name == "light.weight":
            continue  # learns by distillation only
        router.zero_grad()
        gate_loss(route(router, x, context)).backward()
        assert parameter.grad.abs().sum() > 0, parameter_name
        step = torch.randn(parameter.shape, generator=generator)
        step /= step.norm() * 500
        values = []
        with torch.no_grad():
            for sign in (1, -2, 1):  # forth, back, and where it was
                parameter += sign * step
                values.append(route(router, x, context))
        assert torch.equal(values[0].experts, values[1].experts), "choose another seed"
        slope = (gate_loss(values[0]) - gate_loss(values[1])).item() / 2
        wanted = (parameter.grad * step).sum().item()
        assert slope == pytest.approx(wanted, rel=0.02, abs=2e-6), parameter_name


@pytest.mark.parametrize("name", ROUTERS)
def test_padding_changes_no_routing(name):
    x, context = batch()
    alone = route(random_router(name), x, context)
    mask = torch.tensor([[1] * n + [0] * (5 - n) for n in LENGTHS], dtype=torch.bool)
    states, ids = torch.full((4, 5, 32), 7.0), torch.full((4, 5), 11)
    states[mask], ids[mask] = x, context["input_ids"]
    padded = RoutingContext.padded(ids, mask, context["language_ids"])
    padded = vars(padded) | {"light_table": context["light_table"]}
    routing = route(random_router(name), states.flatten(0, 1), padded)
    assert torch.equal(routing.experts[mask.flatten()], alone.experts)
    torch.testing.assert_close(routing.gates[mask.flatten()], alone.gates)
