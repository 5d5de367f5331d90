import math

import numpy as np
import pytest
import torch

from mretrieve.models.routers import make_router
from tests.models.nomic import tiny_config


def router_of(**changes):
    router = make_router(tiny_config(router="xmoe", **changes))
    router.reset(0.5, torch.Generator().manual_seed(1))
    return router


def test_cosines_over_temperatures():
    router = router_of(router_dim=3, router_temperature=0.5)
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        router.log_temperature.fill_(math.log(0.1))
        routing = router(x)
    tokens = (x @ router.projection.weight.T).detach().double().numpy()
    embeddings = router.experts.detach().double().numpy()
    lengths = np.linalg.norm(tokens, axis=1)[:, None] * np.linalg.norm(embeddings, axis=1)
    cosines = tokens @ embeddings.T / lengths
    np.testing.assert_allclose(routing.logits.numpy(), cosines / 0.5, atol=1e-5)
    probs = np.exp(cosines / 0.1) / np.exp(cosines / 0.1).sum(1, keepdims=True)
    best = np.argsort(-cosines, axis=1)[:, :2]
    assert routing.experts.tolist() == best.tolist()
    np.testing.assert_allclose(routing.gates.numpy(), np.take_along_axis(probs, best, 1), atol=1e-5)


def test_neither_tokens_nor_experts_win_by_length():
    router = router_of()
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        first = router(x)
        router.experts[1] *= 100
        second = router(7 * x)
    assert torch.equal(first.experts, second.experts)
    torch.testing.assert_close(first.gates, second.gates)


@pytest.mark.parametrize(("experts", "dim", "width"), [(8, 0, 4), (8, 3, 3), (2, 0, 2)])
def test_the_width_is_half_the_experts_but_at_least_2(experts, dim, width):
    router = make_router(tiny_config(router="xmoe", num_experts=experts, router_dim=dim))
    assert router.projection.weight.shape == (width, 32)
    assert router.experts.shape == (experts, width)


def test_fresh_values_are_the_papers():
    router = router_of()
    torch.testing.assert_close(router.experts.norm(dim=1), torch.full((4,), 0.1))
    assert router.log_temperature.exp().item() == pytest.approx(0.3)
