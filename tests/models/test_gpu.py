"""The whole encoder where a GPU must never wait for the host; what needs a device is marked so."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mretrieve.models import attention, dispatch, grouped
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.nomic_moe import NomicMoEModel
from tests.models.nomic import tiny_config, tiny_model

LENGTHS = [5, 3, 9, 5]
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def encode(model, ids, way, mask=None):
    output = model.forward_packed(ids.flatten(), LENGTHS) if way == "packed" else model(ids, mask)
    loss = output.last_hidden_state.float().square().mean()
    return output, loss if output.auxiliary_loss is None else loss + output.auxiliary_loss


@pytest.mark.parametrize("way", ["padded", "packed"])
@pytest.mark.parametrize("training", [False, True])
def test_no_value_is_asked_for(way, training, monkeypatch):
    # Fake tensors hold no values. On a fake CPU, since torch without CUDA computes no gradients on a fake
    # GPU; what a GPU would choose is chosen by hand.
    monkeypatch.setattr(grouped, "has_kernel", lambda *args: True)
    monkeypatch.setattr(dispatch, "choose_dispatch", lambda *args: "grouped")
    monkeypatch.setattr(attention, "has_varlen_kernel", lambda q: True)
    config = tiny_config(expert_biases=True, router_aux_loss_coef=0.1)
    with FakeTensorMode():
        model = NomicMoEModel(NomicMoEConfig(**config.to_dict())).train(training)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        ids = torch.zeros(2, 11, dtype=torch.long)
        output, loss = encode(model, ids, way, mask=torch.ones(2, 11, dtype=torch.long))
        loss.backward()
    assert output.last_hidden_state.shape == ((22, 32) if way == "packed" else (2, 11, 32))
    assert model.encoder.layers[1].mlp.experts.mlp.w1.grad.shape == (160, 32)


def batch(device):
    torch.manual_seed(2)
    return torch.randint(4, 48, (2, 11), device="cpu").to(device)


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("way", ["padded", "packed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_gpu_computes_what_the_cpu_does(way, dtype):
    wanted, _ = encode(tiny_model(), batch("cpu"), way)
    found, _ = encode(tiny_model().to("cuda", dtype), batch("cuda"), way)
    difference = found.last_hidden_state.cpu().float() - wanted.last_hidden_state
    assert difference.norm() < (1e-3 if dtype == torch.float32 else 0.05) * wanted.last_hidden_state.norm()


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("training", [False, True])
def test_a_gpu_never_waits(training):
    if not grouped.has_kernel(torch.device("cuda"), torch.bfloat16, 32, 40):
        pytest.skip("torch has no grouped matrix product for this GPU")
    model = tiny_model(tiny_config(router_aux_loss_coef=0.1)).to("cuda", torch.bfloat16).train(training)
    ids = batch("cuda")
    encode(model, ids, "padded")[1].backward()  # handles and workspaces
    torch.cuda.set_sync_debug_mode("error")
    try:
        encode(model, ids, "padded")[1].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_cuda_graph_follows_its_input(dtype):
    model = tiny_model().to("cuda", dtype)
    ids = batch("cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        model(ids)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        states = model(ids).last_hidden_state
    ids.copy_(ids.flip(1))
    graph.replay()
    torch.testing.assert_close(states, model(ids).last_hidden_state, rtol=0.02, atol=0.05)
