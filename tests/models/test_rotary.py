import math

import pytest
import torch

from mretrieve.models.rotary import apply_rotary, rotary_tables


def test_angles_are_position_times_frequency():
    cos, sin = rotary_tables(torch.tensor([0, 3]), dim=4, base=100.0)
    assert cos.tolist()[0] == [1, 1]
    assert cos[1].tolist() == pytest.approx([math.cos(3), math.cos(0.3)])
    assert sin[1].tolist() == pytest.approx([math.sin(3), math.sin(0.3)])


@pytest.mark.parametrize(("interleaved", "pairs"), [(False, [(0, 2), (1, 3)]), (True, [(0, 1), (2, 3)])])
def test_pairs_turn_and_the_rest_stays(interleaved, pairs):
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).view(1, 1, 5)  # one token, one head
    cos, sin = rotary_tables(torch.tensor([1]), dim=4, base=100.0)
    y = apply_rotary(x, cos, sin, interleaved=interleaved).flatten()
    for (a, b), angle in zip(pairs, (1.0, 0.1), strict=True):
        turned = complex(x[0, 0, a], x[0, 0, b]) * complex(math.cos(angle), math.sin(angle))
        assert complex(y[a], y[b]) == pytest.approx(turned)
    assert y[4] == 5


def test_scores_depend_on_the_distance_alone():
    torch.manual_seed(1)
    q, k = torch.randn(2, 1, 1, 8)

    def score(a, b):
        tables = [rotary_tables(torch.tensor([n]), dim=8, base=1e4) for n in (a, b)]
        return (apply_rotary(q, *tables[0]) * apply_rotary(k, *tables[1])).sum().item()

    assert score(2, 7) == pytest.approx(score(52, 57), abs=1e-5)
    assert abs(score(2, 7) - score(2, 8)) > 1e-3


def test_the_dtype_stays():
    cos, sin = rotary_tables(torch.arange(3), dim=4, base=1e4)
    assert apply_rotary(torch.ones(3, 2, 6, dtype=torch.bfloat16), cos, sin).dtype == torch.bfloat16
