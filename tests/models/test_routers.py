import pytest
import torch

from mretrieve.errors import InputError
from mretrieve.models.routers import make_router
from tests.models.nomic import tiny_config


def one_hot_router(**changes):
    """A router whose logits are the first four features."""
    router = make_router(tiny_config(**changes))
    with torch.no_grad():
        router.layer.weight.copy_(torch.eye(4, 32))
    return router


def token(*logits):
    return torch.tensor([[*logits, *[0.0] * 28]])


def test_gates_are_the_softmax_over_all_experts():
    x = token(0.0, 3.0, 1.0, 2.0).log1p()  # 1 + x: 1, 4, 2, 3
    routing = one_hot_router()(x)
    assert routing.experts.tolist() == [[1, 3]]
    assert routing.gates[0].tolist() == pytest.approx([0.4, 0.3])
    assert routing.logits.shape == (1, 4)


def test_normalized_gates_sum_to_1():
    routing = one_hot_router(normalize_gates=True)(token(0.0, 3.0, 1.0, 2.0).log1p())
    assert routing.gates[0].tolist() == pytest.approx([4 / 7, 3 / 7])


def test_arithmetic_is_float32():
    router = one_hot_router().to(torch.bfloat16)
    routing = router(token(0.0, 1.0, 2.0, 3.0).to(torch.bfloat16))
    assert routing.logits.dtype == routing.gates.dtype == torch.float32


def test_an_unknown_router_lists_the_known():
    with pytest.raises(InputError, match=r"Unknown router 'random'. Known: softmax"):
        make_router(tiny_config(router="random"))
