import math

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mretrieve.models import dispatch, grouped
from mretrieve.models.dispatch import DISPATCHES, TABLE, choose_dispatch, dispatch_auto, sort_slots
from mretrieve.models.experts import Experts
from mretrieve.models.routing import Routing
from tests.models.nomic import tiny_config

WAYS = {**DISPATCHES, "auto": dispatch_auto}
# Expert 2 has no token; expert 1 is nobody's first choice but two tokens' second.
CHOSEN = [[0, 1], [1, 3], [3, 0], [0, 3], [3, 1], [0, 1]]


def experts(way="auto", **changes):
    torch.manual_seed(1)
    layer = Experts(tiny_config(**changes))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    layer.dispatch = WAYS[way]
    return layer


def routing_of(chosen, gates):
    chosen = torch.tensor(chosen)
    gates = torch.as_tensor(gates)
    return Routing(torch.zeros(len(chosen), 4), chosen, gates)


def random_routing(n):
    torch.manual_seed(2)
    logits = torch.randn(n, 4)
    gates, chosen = logits.softmax(-1).topk(2, dim=-1)
    return Routing(logits, chosen, gates)


def test_slots_are_sorted_by_expert_then_by_number():
    order, ends = sort_slots(torch.tensor([[2, 0], [0, 3], [4, 2]]), 4)
    assert order.tolist() == [1, 2, 0, 5, 3, 4]  # pairs of expert 0, 0, 2, 2, 3 and of nobody
    assert ends.tolist() == [2, 2, 4, 5]
    assert (order.dtype, ends.dtype) == (torch.int64, torch.int32)


def test_more_experts_than_a_byte_counts():
    chosen = torch.arange(600).flip(0).view(300, 2)
    order, ends = sort_slots(chosen, 600)
    assert chosen.flatten()[order].tolist() == list(range(600))
    assert ends.tolist() == list(range(1, 601))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("biases", [False, True])
@torch.no_grad()
def test_a_token_gets_its_experts_by_their_gates_and_the_bias_once(way, biases):
    layer = experts(way, hidden_act="relu", expert_biases=biases)
    x = torch.randn(3, 32)
    routing = routing_of([[2, 0], [0, 3], [2, 3]], [[0.5, 0.25], [0.75, 0.125], [0.5, 0.5]])
    y = layer(x, routing)
    for row in range(3):
        wanted = layer.bias.clone()
        for e, gate in zip(routing.experts[row].tolist(), routing.gates[row].tolist(), strict=True):
            inner = layer.mlp.w1[e * 40 : (e + 1) * 40] @ x[row]
            if biases:
                inner = inner + layer.mlp.b1[e * 40 : (e + 1) * 40]
            wanted += gate * (inner.clamp(min=0) @ layer.mlp.w2[e * 40 : (e + 1) * 40])
        torch.testing.assert_close(y[row], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_a_slot_with_gate_0_adds_nothing(way):
    layer = experts(way)
    x = torch.randn(6, 32)
    gates = torch.full((6, 2), 0.3)
    gates[:, 1] = 0
    found = layer(x, routing_of(CHOSEN, gates))
    wanted = layer(x, routing_of([row[:1] for row in CHOSEN], gates[:, :1]))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("way", ["loop", "auto"])
@torch.no_grad()
def test_an_expert_that_no_gate_wants_does_not_run(way):
    layer = experts(way)
    layer.mlp.w1[40:80] = torch.nan  # expert 1
    gates = (torch.tensor(CHOSEN) != 1) * 0.3
    assert layer(torch.randn(6, 32), routing_of(CHOSEN, gates)).isfinite().all()


@pytest.mark.parametrize("way", ["loop", "auto"])
def test_no_gate_wants_any_expert(way):
    layer = experts(way)
    y = layer(torch.randn(6, 32), routing_of(CHOSEN, torch.zeros(6, 2)))
    torch.testing.assert_close(y, layer.bias.expand(6, 32))


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_no_tokens(way):
    routing = Routing(torch.zeros(0, 4), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2))
    assert experts(way)(torch.zeros(0, 32), routing).shape == (0, 32)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("biases", [False, True])
def test_gradients_are_those_of_finite_differences(way, biases):
    layer = experts(way, hidden_size=8, intermediate_size=6, expert_biases=biases).double()
    x = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    gates = torch.full((6, 2), 0.3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def run(x, gates, *parameters):
        routing = Routing(torch.zeros(6, 4, dtype=torch.float64), torch.tensor(CHOSEN), gates)
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, named, (x, routing))

    assert torch.autograd.gradcheck(run, (x, gates, *layer.parameters()), fast_mode=True)


def gradients(way, dtype=torch.float32, *, autocast=False, recompute=False):
    layer = experts(way, expert_biases=True).to(dtype)
    routing = random_routing(64)
    torch.manual_seed(3)
    x, weight = torch.randn(2, 64, 32).to(dtype)
    x.requires_grad_()
    routing = routing._replace(gates=routing.gates.requires_grad_())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = checkpoint(layer, x, routing, use_reentrant=False) if recompute else layer(x, routing)
    assert y.dtype == dtype
    (y * weight).sum().backward()
    return {"x": x.grad, "gates": routing.gates.grad} | {n: p.grad for n, p in layer.named_parameters()}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "loop"])
def test_all_ways_have_the_gradients_of_the_loop(way):
    wanted = gradients("loop")
    assert wanted["mlp.w1"].abs().max() > 1
    for name, found in gradients(way).items():
        torch.testing.assert_close(found, wanted[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_near_float32(way, autocast):
    wanted = gradients("loop")
    for name, found in gradients(
        way, torch.float32 if autocast else torch.bfloat16, autocast=autocast
    ).items():
        assert found.dtype == (torch.float32 if autocast or name == "gates" else torch.bfloat16)
        assert (found.float() - wanted[name]).norm() < 0.01 * wanted[name].norm(), name


def test_gradients_do_not_depend_on_the_run_nor_on_forgetting_what_was_computed():
    first = gradients("grouped", torch.bfloat16)
    for other in (gradients("grouped", torch.bfloat16), gradients("grouped", torch.bfloat16, recompute=True)):
        assert all(torch.equal(first[name], other[name]) for name in first)


class Largest(TorchDispatchMode):
    """How many elements the largest tensor has that any operator returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return found


@pytest.mark.parametrize("way", ["grouped", "loop"])
def test_memory_grows_with_chosen_experts_and_not_with_all(way):
    layer = experts(way)
    x = torch.randn(500, 32, requires_grad=True)
    with Largest() as largest:
        layer(x, random_routing(500)).sum().backward()
    assert largest.elements <= 500 * 2 * 40  # the inner states of two of four experts


# Fake tensors have shapes alone: whatever would make the host wait for a value fails.


def fake_layer(way, monkeypatch):
    monkeypatch.setattr(grouped, "has_kernel", lambda *args: True)
    with FakeTensorMode() as mode:
        layer = Experts(tiny_config(expert_biases=True))
        for module in layer.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                half = torch.empty(parameter.shape, dtype=torch.bfloat16)
                setattr(module, name, torch.nn.Parameter(half))
        layer.dispatch = WAYS[way]
        chosen = torch.empty(64, 2, dtype=torch.long)
        logits, gates = torch.empty(64, 4), torch.empty(64, 2)
        x = torch.empty(64, 32, dtype=torch.bfloat16)
        return mode, layer, x, Routing(logits, chosen, gates)


@pytest.mark.parametrize("way", ["grouped", "gathered", "all"])
def test_nothing_is_asked_of_the_device(way, monkeypatch):
    mode, layer, x, routing = fake_layer(way, monkeypatch)
    with mode:
        gates = routing.gates.requires_grad_()
        y = layer(x.requires_grad_(), routing._replace(gates=gates))
        y.sum().backward()
    assert (y.shape, y.dtype) == ((64, 32), torch.bfloat16)
    found = {name: parameter.grad.shape for name, parameter in layer.named_parameters()}
    assert found == {name: parameter.shape for name, parameter in layer.named_parameters()}
    assert (x.grad.dtype, gates.grad.dtype) == (torch.bfloat16, torch.float32)


def test_the_loop_asks(monkeypatch):
    mode, layer, x, routing = fake_layer("loop", monkeypatch)
    with mode, pytest.raises(DataDependentOutputException):
        layer(x, routing)


def choice(monkeypatch, *, dtype=torch.bfloat16, capability=(9, 0), capturing=False, n=64):
    monkeypatch.setattr(grouped, "compute_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    weights = experts().mlp.to(dtype)
    with FakeTensorMode(), torch.device("cuda"):
        x = torch.empty(n, 32, dtype=dtype)
        routing = Routing(torch.empty(n, 4), torch.empty(n, 2, dtype=torch.long), torch.empty(n, 2))
        return choose_dispatch(x, weights, routing)


def test_while_a_graph_is_captured_nothing_may_ask_the_host(monkeypatch):
    assert choice(monkeypatch, capturing=True) == "grouped"
    assert choice(monkeypatch, capturing=True, capability=(8, 0)) == "all"
    assert choice(monkeypatch, capturing=True, dtype=torch.float32) == "all"
    assert choice(monkeypatch, capturing=True, dtype=torch.float32, n=2) == "gathered"
    assert choice(monkeypatch, dtype=torch.float32) == "grouped"


def test_the_table_decides_by_tokens(monkeypatch):
    table = {("cpu", torch.float32, False): ((4, "gathered"), (math.inf, "all"))}
    monkeypatch.setattr(dispatch, "TABLE", table)
    weights = experts().mlp.requires_grad_(False)
    names = [choose_dispatch(torch.zeros(n, 32), weights, random_routing(n)) for n in (1, 4, 5, 999)]
    assert names == ["gathered", "gathered", "all", "all"]
    assert choose_dispatch(torch.zeros(1, 32), weights.requires_grad_(), random_routing(1)) == "grouped"
    with torch.no_grad():
        assert choose_dispatch(torch.zeros(1, 32), weights, random_routing(1)) == "gathered"
    with torch.autocast("cpu", torch.bfloat16):  # products are in another dtype than x
        assert choose_dispatch(torch.zeros(1, 32), weights, random_routing(1)) == "grouped"


def test_the_table_names_known_ways_and_has_no_end():
    for rows in TABLE.values():
        assert all(name in DISPATCHES for _, name in rows)
        assert [most for most, _ in rows] == sorted({most for most, _ in rows})
        assert rows[-1][0] == math.inf


def test_autocast_leaves_float64():
    wanted = gradients("loop", torch.float64)
    for name, found in gradients("grouped", torch.float64, autocast=True).items():
        torch.testing.assert_close(found, wanted[name], rtol=1e-9, atol=1e-9)
