import pytest
import torch

from mretrieve.errors import InputError
from mretrieve.models.routing import RoutingContext

# Two texts of three and two tokens, one of one.
MASK = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 0]])
STATES = torch.tensor([1.0, 2.0, 6.0, 3.0, 5.0, 7.0])


def padded(**options):
    states = torch.full((3, 3), 99.0)
    states[MASK.bool()] = STATES
    ids = torch.arange(9).view(3, 3)
    return RoutingContext.padded(ids, MASK, **options), states.view(-1, 1)


def packed(**options):
    return RoutingContext.packed(torch.arange(6), [3, 2, 1], **options), STATES.unsqueeze(1)


@pytest.mark.parametrize("make", [padded, packed])
def test_a_texts_mean_is_over_its_real_tokens(make):
    context, states = make()
    assert context.n_texts == 3
    torch.testing.assert_close(context.mean_of_texts(states).flatten(), torch.tensor([3.0, 4.0, 7.0]))


def test_tokens_know_their_text():
    assert padded()[0].text_of_token.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert packed()[0].text_of_token.tolist() == [0, 0, 0, 1, 1, 2]
    assert packed()[0].input_ids.tolist() == [0, 1, 2, 3, 4, 5]


def test_without_a_mask_all_tokens_are_real():
    context = RoutingContext.padded(torch.zeros(2, 2, dtype=torch.long), None)
    assert context.mean_of_texts(torch.tensor([[1.0], [3.0], [5.0], [6.0]])).flatten().tolist() == [2.0, 5.5]


def test_neighbours_of_equal_length_are_one_group():
    context = RoutingContext.packed(torch.arange(9), [2, 2, 1, 2, 2])
    assert list(context.groups) == [(2, 2), (1, 1), (2, 2)]
    means = context.mean_of_texts(torch.arange(9.0).unsqueeze(1))
    assert means.flatten().tolist() == [0.5, 2.5, 4.0, 5.5, 7.5]


def test_texts_without_tokens_and_batches_without_texts():
    context = RoutingContext.padded(torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2))
    assert context.mean_of_texts(torch.ones(2, 3)).tolist() == [[0.0, 0.0, 0.0]]
    context = RoutingContext.packed(torch.zeros(0, dtype=torch.long), [])
    assert context.mean_of_texts(torch.ones(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("make", [padded, packed])
def test_there_must_be_one_language_for_each_text(make):
    assert make(language_ids=torch.tensor([1, 2, 3]))[0].language_ids.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match=r"one id for each of the 3 texts, got shape \(6,\)"):
        make(language_ids=torch.ones(6))
