"""The encoder as one graph: nothing in it may depend on values."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

from mretrieve.models import attention, grouped
from mretrieve.models.attention import PackedLayout
from mretrieve.models.experts import Experts
from mretrieve.models.routing import Routing
from tests.models.nomic import tiny_config, tiny_model

# The compiler itself makes one where it meets an autograd function.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
SIZES = {"num_hidden_layers": 2, "moe_layers": (1,)}


@pytest.fixture
def compiled():
    """Compiles whole graphs and counts them."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")

    def run(function, **options):
        return torch.compile(function, backend=counter, fullgraph=True, **options)

    yield run, counter
    torch._dynamo.reset()


def batch(n, length, *, padded):
    torch.manual_seed(2)
    ids = torch.randint(4, 48, (n, length))
    if not padded:
        return ids, None
    mask = (torch.arange(length) < torch.randint(1, length + 1, (n, 1))).long()
    return ids * mask + (1 - mask), mask


@pytest.mark.parametrize(("dtype", "padded"), [(torch.float32, True), (torch.bfloat16, False)])
@torch.no_grad()
def test_batches_of_any_shape_are_one_graph(compiled, dtype, padded):
    run, counter = compiled
    model = tiny_model(tiny_config(**SIZES)).to(dtype)
    fast = run(model, dynamic=True)
    graphs = set()
    for shape in ((2, 9), (5, 17), (3, 12)):
        ids, mask = batch(*shape, padded=padded)
        wanted, found = model(ids, mask), fast(ids, mask)
        assert all(map(torch.equal, found.router_experts, wanted.router_experts))
        torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state)
        graphs.add(counter.frame_count)
    assert len(graphs) == 1


def test_training_is_one_graph(compiled):
    run, _ = compiled
    ids, mask = batch(3, 12, padded=True)
    found = []
    for fast in (False, True):
        model = tiny_model(tiny_config(**SIZES, expert_biases=True, router_aux_loss_coef=0.1)).train()
        output = (run(model) if fast else model)(ids, mask)
        (output.last_hidden_state.square().mean() + output.auxiliary_loss).backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() >= {"encoder.layers.1.mlp.experts.mlp.w1"}
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_packed_batches_are_one_graph_from_the_layout_on(compiled, monkeypatch):
    monkeypatch.setattr(
        PackedLayout, "attend", PackedLayout.attend_padded
    )  # groups are other graphs each time
    run, counter = compiled
    model, fast = (tiny_model(tiny_config(**SIZES)) for _ in range(2))
    fast.encoder = run(fast.encoder, dynamic=True)
    graphs = set()
    for lengths in ([3, 5, 4, 6], [6, 2, 5], [2, 2, 2, 7, 9, 1]):  # no size is that of the model
        ids = torch.randint(4, 48, (sum(lengths),))
        wanted, found = model.forward_packed(ids, lengths), fast.forward_packed(ids, lengths)
        torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state)
        graphs.add(counter.frame_count)
    assert len(graphs) == 1


def test_on_a_gpu_the_graph_holds_its_kernels(monkeypatch):
    # Fake tensors on a GPU, which need none.
    monkeypatch.setattr(grouped, "compute_capability", lambda device: (9, 0))
    monkeypatch.setattr(attention, "compute_capability", lambda device: (9, 0))
    torch._dynamo.reset()
    sources = []

    def run(function, *args):
        def backend(graph, inputs):
            sources.append(graph.code)
            return graph.forward

        return torch.compile(function, backend=backend, fullgraph=True)(*args)

    with FakeTensorMode(), torch.no_grad():
        layer = Experts(tiny_config())
        for module in layer.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                half = torch.empty(parameter.shape, dtype=torch.bfloat16, device="cuda")
                setattr(module, name, torch.nn.Parameter(half))
        logits, gates = torch.empty(20, 4, device="cuda"), torch.empty(20, 2, device="cuda")
        routing = Routing(logits, torch.empty(20, 2, dtype=torch.long, device="cuda"), gates)
        x = torch.empty(20, 32, dtype=torch.bfloat16, device="cuda")
        assert run(layer, x, routing).shape == x.shape
        layout = PackedLayout([8, 12])
        layout.bounds = torch.empty(3, dtype=torch.int32, device="cuda")
        q = x.view(20, 2, 16)
        assert run(lambda q: layout.attend(q, q, q), q).shape == q.shape
    assert sources[0].count("torch._grouped_mm(") == 2
    assert "_varlen_attn(" in sources[1]
