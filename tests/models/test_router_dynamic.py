import itertools

import pytest
import torch

from mretrieve.models.routers import make_router
from tests.models.nomic import tiny_config


def routed(probabilities, **changes):
    """Route one token whose softmax is `probabilities`."""
    n = len(probabilities)
    router = make_router(tiny_config(num_experts=n, **changes))
    with torch.no_grad():
        router.layer.weight.copy_(torch.eye(n, 32))
        x = torch.zeros(1, 32)
        x[0, :n] = torch.tensor(probabilities).log()
        routing = router(x)
    return routing.experts[0].tolist(), routing.gates[0].tolist()


@pytest.mark.parametrize(
    ("p", "gates"),
    [
        (0.1, [0.5, 0.0, 0.0]),
        (0.49, [0.5, 0.0, 0.0]),
        (0.51, [0.5, 0.3, 0.0]),
        (0.81, [0.5, 0.3, 0.15]),
        (1.0, [0.5, 0.3, 0.15]),  # never more than top_k
    ],
)
def test_as_few_experts_as_hold_the_probability(p, gates):
    experts, found = routed([0.3, 0.05, 0.5, 0.15], router="top_p", moe_top_k=3, router_top_p=p)
    assert experts == [2, 0, 3]
    assert found == pytest.approx(gates)


def test_what_is_used_is_normalized():
    options = {"router": "top_p", "moe_top_k": 3, "normalize_gates": True}
    assert routed([0.3, 0.05, 0.5, 0.15], router_top_p=0.6, **options)[1] == pytest.approx([5 / 8, 3 / 8, 0])
    assert routed([0.3, 0.05, 0.5, 0.15], router_top_p=0.2, **options)[1] == [1, 0, 0]


# Six experts in three strata: 0 and 1, 2 and 3, 4 and 5.
@pytest.mark.parametrize(
    ("probabilities", "path", "gates"),
    [
        # Straight to the last stratum.
        ([0.1, 0.1, 0.1, 0.1, 0.4, 0.2], [4], [0.4]),
        # First stratum, then the likeliest of 0.6 that is left, in the last.
        ([0.4, 0.0001, 0.1, 0.1, 0.25, 0.1499], [0, 4], [0.4, 0.25 / 0.5999]),
        # All three: 3 of the last four, 5 of the last two.
        ([0.15, 0.4, 0.05, 0.2, 0.05, 0.15], [1, 3, 5], [0.4, 0.2 / 0.45, 0.15 / 0.2]),
        # The second stratum first.
        ([0.1, 0.1, 0.5, 0.1, 0.05, 0.15], [2, 5], [0.5, 0.15 / 0.2]),
    ],
)
def test_a_token_climbs_the_strata(probabilities, path, gates):
    experts, found = routed(probabilities, router="stratified", moe_top_k=3)
    n = len(path)
    assert experts[:n] == path
    assert found == pytest.approx([*gates, *[0] * (3 - n)], rel=1e-4)
    assert len(set(experts)) == 3


def test_every_path_ends_in_the_last_stratum():
    router = make_router(tiny_config(router="stratified", num_experts=8, moe_top_k=4))
    router.reset(0.5, torch.Generator().manual_seed(1))
    with torch.no_grad():
        routing = router(torch.randn(500, 32, generator=torch.Generator().manual_seed(2)))
    used = routing.gates > 0
    lengths = used.sum(1)
    assert set(lengths.tolist()) == {1, 2, 3, 4}
    strata = routing.experts // 2
    for row, n in zip(strata.tolist(), lengths.tolist(), strict=True):
        assert row[n - 1] == 3
        assert all(a < b for a, b in itertools.pairwise(row[:n]))
    assert all(len(set(row)) == 4 for row in routing.experts.tolist())


def test_one_stratum_is_top_1():
    router = make_router(tiny_config(router="stratified", moe_top_k=1))
    plain = make_router(tiny_config(moe_top_k=1))
    router.reset(1.0, torch.Generator().manual_seed(1))
    plain.load_state_dict(router.state_dict())
    x = torch.randn(20, 32, generator=torch.Generator().manual_seed(2))
    one, other = router(x), plain(x)
    assert torch.equal(one.experts, other.experts)
    torch.testing.assert_close(one.gates, other.gates)
