"""The loss over groups of right answers, against arithmetic written out."""

import math

import pytest
import torch
import torch.nn.functional as F

from mretrieve.train.multi_positive import MultiPositiveLoss
from mretrieve.train.objectives import MultiPositive


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def loss_of(embeddings, *, groups, texts, **settings):
    labels = {"groups": torch.tensor(groups), "texts": torch.tensor(texts)}
    loss = MultiPositiveLoss(MultiPositive(**settings))
    return loss.compute_loss_from_embeddings(embeddings, labels)


def texts_of(n, columns):
    return [[10 * row + column for column in range(columns)] for row in range(n)]


def test_each_right_answer_is_before_the_wrong_ones_and_none_before_another():
    q, p, negatives = unit(3, 4), unit(3, 4, seed=1), unit(3, 4, seed=2)
    sims = (q @ torch.cat([p, negatives]).T / 0.1).tolist()
    right = [{0, 1}, {0, 1}, {2}]  # the first two examples are of one group
    expected = 0.0
    for row, own in enumerate(right):
        wrong = [math.exp(value) for place, value in enumerate(sims[row]) if place not in own]
        terms = [math.log(1 + sum(wrong) / math.exp(sims[row][place])) for place in own]
        expected += sum(terms) / len(terms) / 3
    found = loss_of([q, p, negatives], groups=[7, 7, 8], texts=texts_of(3, 3), temperature=0.1)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_an_equal_text_is_what_it_is_elsewhere():
    """The third's negative is the first's answer; the second's negative is its own anchor's text."""
    q, p, negatives = unit(3, 4), unit(3, 4, seed=1), unit(3, 4, seed=2)
    texts = texts_of(3, 3)
    texts[2][2], texts[1][2] = texts[0][1], texts[1][0]
    sims = (q @ torch.cat([p, negatives]).T / 0.1).tolist()
    # Candidates 0-2 are positives, 3-5 negatives. For the first 5 is no wrong answer but one already counted;
    # for the second 4 is its own text.
    wrong = [[1, 2, 3, 4], [0, 2, 3, 5], [0, 1, 3, 4, 5]]
    expected = sum(
        math.log(1 + sum(math.exp(sims[row][place]) for place in wrong[row]) / math.exp(sims[row][row]))
        for row in range(3)
    )
    found = loss_of([q, p, negatives], groups=[1, 2, 3], texts=texts, temperature=0.1)
    assert float(found) == pytest.approx(expected / 3, rel=1e-5)


def test_unevenness_is_zero_where_all_answers_are_as_near_and_grows_with_the_difference():
    q = torch.tensor([[1.0, 0, 0]] * 2)
    even = torch.tensor([[0.6, 0.8, 0], [0.6, 0, 0.8]])
    uneven = torch.tensor([[0.8, 0.6, 0], [0.6, 0, 0.8]])
    settings = {"groups": [1, 1], "texts": texts_of(2, 2), "temperature": 0.1, "uniform_temperature": 0.1}
    plain, level = (loss_of([q, even], **settings, uniform=weight) for weight in (0.0, 2.0))
    assert float(level) == pytest.approx(float(plain), abs=1e-6)
    plain, tilted = (loss_of([q, uneven], **settings, uniform=weight) for weight in (0.0, 2.0))
    shares = torch.tensor([8.0, 6.0]).softmax(dim=0).tolist()
    kl = sum(0.5 * math.log(0.5 / share) for share in shares)
    assert float(tilted - plain) == pytest.approx(2 * kl, rel=1e-4)


def test_an_anchor_whose_only_answer_is_itself_has_no_loss():
    q = unit(2, 4).requires_grad_()
    found = loss_of([q, unit(2, 4, seed=1)], groups=[1, 2], texts=[[5, 5], [6, 6]])
    found.backward()
    assert float(found.detach()) == 0 and float(q.grad.abs().sum()) == 0


def test_gradients_are_numbers_where_nothing_is_wrong():
    q = unit(2, 4).requires_grad_()
    loss_of([q, unit(2, 4, seed=1)], groups=[1, 1], texts=texts_of(2, 2), uniform=1.0).backward()
    assert torch.isfinite(q.grad).all()
