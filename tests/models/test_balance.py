import math

import pytest
import torch

from mretrieve.models.balance import (
    BALANCE_LOSSES,
    gshard_loss,
    load_balancing_loss,
    router_z_loss,
    switch_loss,
)


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


@pytest.mark.parametrize("loss", [*BALANCE_LOSSES.values(), None], ids=[*BALANCE_LOSSES, "z"])
def test_masked_tokens_do_not_count(loss):
    def value(rows, mask=None):
        if loss is None:
            return router_z_loss([rows], mask=mask).item()
        return loss([rows], top_k=2, mask=mask).item()

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


def test_wrong_arguments():
    with pytest.raises(ValueError, match="no router logits"):
        load_balancing_loss([], top_k=1)
    with pytest.raises(ValueError, match="top_k must be between 1 and 3"):
        load_balancing_loss([ROUTED], top_k=4)
