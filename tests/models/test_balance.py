import math
from dataclasses import replace

import pytest
import torch

from mretrieve.models import nomic_config
from mretrieve.models.balance import (
    BALANCE_LOSSES,
    Choices,
    auxiliary_losses,
    distillation_loss,
    gshard_loss,
    load_balancing_loss,
    overload_loss,
    router_entropy_loss,
    router_z_loss,
    switch_loss,
)
from mretrieve.models.routing import Routing
from tests.models.nomic import tiny_config


def logits(rows):
    """Logits whose softmax is `rows`."""
    return torch.tensor(rows).log()


# Two tokens, three experts. Counts at top 2: (2, 2, 0) and mean probabilities (0.5, 0.35, 0.15).
ROUTED = logits([[0.6, 0.3, 0.1], [0.4, 0.4001, 0.1999]])


def test_choices_times_mean_probabilities():
    expected = 3 * (0.5 * 0.5 + 0.5 * 0.35)
    assert load_balancing_loss([ROUTED], top_k=2).item() == pytest.approx(expected, abs=1e-4)
    # First choices: expert 0, then expert 1.
    assert switch_loss([ROUTED], top_k=2).item() == pytest.approx(expected, abs=1e-4)
    assert gshard_loss([ROUTED], top_k=2).item() == pytest.approx(expected / 9, abs=1e-4)


@pytest.mark.parametrize("name", ["megablocks", "switch"])
def test_even_use_gives_1_and_collapse_the_number_of_experts(name):
    loss = BALANCE_LOSSES[name]
    even = logits([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7]])
    assert loss([even, even], top_k=1).item() == pytest.approx(1)
    collapsed = torch.tensor([[50.0, 0.0, 0.0, 0.0]]).expand(5, 4)
    assert loss([collapsed], top_k=1).item() == pytest.approx(4)


def test_layers_are_averaged_after_the_product():
    one, other = logits([[0.9, 0.1]]), logits([[0.1, 0.9]])
    # Each layer uses one expert only: together they would look balanced.
    assert load_balancing_loss([one, other], top_k=1).item() == pytest.approx(1.8)


OTHER = {"z": router_z_loss, "entropy": router_entropy_loss}


@pytest.mark.parametrize("name", [*BALANCE_LOSSES, *OTHER])
def test_masked_tokens_do_not_count(name):
    def value(rows, mask=None):
        if name in OTHER:
            return OTHER[name]([rows], mask=mask).item()
        return BALANCE_LOSSES[name]([rows], top_k=2, mask=mask).item()

    padded = torch.cat([ROUTED, torch.tensor([[9.0, -9.0, 9.0]])])
    assert value(padded, torch.tensor([[1, 1, 0]])) == pytest.approx(value(ROUTED))
    assert value(padded) != pytest.approx(value(ROUTED))
    assert value(padded, torch.zeros(1, 3)) == 0


def test_z_loss_is_the_mean_squared_log_sum_exp():
    two = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    expected = (math.log(2) ** 2 + (1 + math.log(2)) ** 2) / 2
    assert router_z_loss([two]).item() == pytest.approx(expected)
    assert router_z_loss([two, torch.zeros(1, 2) - math.log(2)]).item() == pytest.approx(expected / 2)


def test_a_step_down_the_gradient_evens_the_use():
    rows = torch.tensor([[2.0, 0.0, 0.0]] * 4, requires_grad=True)
    load_balancing_loss([rows], top_k=1).backward()
    assert (rows.grad[:, 0] > 0).all()
    assert (rows.grad[:, 1:] < 0).all()


def chosen(experts, gates):
    return Choices([torch.tensor(experts)], [torch.tensor(gates)])


def test_choices_that_are_not_the_largest_logits_count_instead():
    largest = chosen([[0, 1], [1, 0]], [[0.6, 0.3], [0.4, 0.4]])
    for loss in BALANCE_LOSSES.values():
        found = loss([ROUTED], top_k=2, choices=largest).item()
        assert found == pytest.approx(loss([ROUTED], top_k=2).item(), abs=1e-6)
    # Both tokens to expert 2, one of them to expert 0 as well; probabilities (0.5, 0.35, 0.15).
    other = chosen([[2, 0], [2, 1]], [[0.1, 0.6], [0.2, 0.0]])
    found = load_balancing_loss([ROUTED], top_k=2, choices=other).item()
    assert found == pytest.approx(3 * (2 / 3 * 0.15 + 1 / 3 * 0.5), abs=1e-3)
    assert switch_loss([ROUTED], top_k=2, choices=other).item() == pytest.approx(3 * 0.15, abs=1e-3)


def test_unused_slots_and_masked_tokens_do_not_count():
    rows = torch.cat([ROUTED, ROUTED])
    choices = chosen([[0, 1], [1, 0], [2, 0], [2, 1]], [[0.6, 0.3], [0.4, 0.4], [0.9, 0.1], [0.9, 0.0]])
    mask = torch.tensor([1, 1, 0, 0])
    found = load_balancing_loss([rows], top_k=2, mask=mask, choices=choices).item()
    assert found == pytest.approx(load_balancing_loss([ROUTED], top_k=2).item())


def test_overload_weighs_sigmoids_by_excess():
    rows = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 1.0]], requires_grad=True)
    high, one = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))
    # Three tokens at expert 0 and one at expert 1, of two on average.
    loss = overload_loss([rows], top_k=1)
    assert loss.item() == pytest.approx((0.5 * 3 * high - 0.5 * one) / 4)
    loss.backward()
    assert (rows.grad[:3, 0] > 0).all() and rows.grad[3, 1] < 0
    assert overload_loss([rows[2:]], top_k=1).item() == 0


def test_entropy_in_nats():
    rows = logits([[0.5, 0.5], [1 - 1e-9, 1e-9]])
    assert router_entropy_loss([rows]).item() == pytest.approx(math.log(2) / 2, abs=1e-6)


def routing_of(light, experts, gates):
    return Routing(torch.zeros(len(light), 2), torch.tensor(experts), torch.tensor(gates), logits(light))


def test_distillation_is_the_cross_entropy_of_the_choice():
    one = routing_of([[0.25, 0.75], [0.5, 0.5]], [[1], [0]], [[0.9], [0.2]])
    expected = -(math.log(0.75) + math.log(0.5)) / 2
    assert distillation_loss([one]).item() == pytest.approx(expected)
    assert distillation_loss([one], mask=torch.tensor([1, 0])).item() == pytest.approx(-math.log(0.75))
    two = routing_of([[0.25, 0.75]], [[1, 0]], [[0.6, 0.2]])
    shared = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert distillation_loss([two]).item() == pytest.approx(shared)
    assert distillation_loss([one, one]).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="no light router"):
        distillation_loss([one, one._replace(light_logits=None)])


def test_the_config_says_what_is_added():
    routing = routing_of([[0.25, 0.75], [0.5, 0.5]], [[1], [0]], [[0.9], [0.2]])
    routing = routing._replace(logits=logits([[0.9, 0.1], [0.8, 0.2]]))
    sizes = {"num_experts": 2, "moe_top_k": 1}
    nothing = tiny_config(**sizes, router="stable", router_distillation_coef=0.0)
    assert auxiliary_losses([routing], nothing) == {}
    assert auxiliary_losses([], tiny_config(router_aux_loss_coef=1.0)) == {}
    all_of_them = tiny_config(
        **sizes,
        router="stable",
        balance_loss="gshard",
        router_aux_loss_coef=0.5,
        router_z_loss_coef=0.1,
        router_entropy_coef=0.2,
    )
    losses = auxiliary_losses([routing], all_of_them)
    # One choice each: shares (0.5, 0.5), whatever the logits say.
    assert losses["balance"].item() == pytest.approx(0.5 * 2 * 0.5 / 4)
    assert losses["z"].item() == pytest.approx(0, abs=1e-9)
    assert losses["entropy"].item() == pytest.approx(0.2 * router_entropy_loss([routing.logits]).item())
    assert losses["distillation"].item() == pytest.approx(distillation_loss([routing]).item())
    assert auxiliary_losses([routing], replace(all_of_them, router_stage=2)) == {}


def test_the_config_knows_all_losses():
    assert set(nomic_config.BALANCE_LOSSES) == set(BALANCE_LOSSES)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="no router logits"):
        load_balancing_loss([], top_k=1)
    with pytest.raises(ValueError, match="top_k must be between 1 and 3"):
        load_balancing_loss([ROUTED], top_k=4)
