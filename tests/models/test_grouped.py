import pytest
import torch

from mretrieve.models import grouped
from mretrieve.models.grouped import grouped_linear, has_kernel, torch_grouped_linear

ENDS = [3, 3, 10, 11]  # four groups: three rows, none, seven, one
LAYOUTS = pytest.mark.parametrize("transposed", [False, True])


def operands(transposed, dtype=torch.float64):
    torch.manual_seed(1)
    rows = torch.randn(11, 8, dtype=dtype, requires_grad=True)
    weights = torch.randn(4, *((16, 8) if transposed else (8, 16)), dtype=dtype, requires_grad=True)
    return rows, weights, torch.tensor(ENDS, dtype=torch.int32)


def piece_by_piece(rows, weights, *, transposed):
    pieces = rows.split([3, 0, 7, 1])
    return torch.cat([p @ (w.T if transposed else w) for p, w in zip(pieces, weights, strict=True)])


@LAYOUTS
def test_each_group_has_its_own_weights(transposed):
    rows, weights, ends = operands(transposed)
    found = grouped_linear(rows, weights, ends, transposed=transposed)
    wanted = piece_by_piece(rows, weights, transposed=transposed)
    torch.testing.assert_close(found, wanted)


@LAYOUTS
def test_gradients(transposed):
    rows, weights, ends = operands(transposed)

    def run(rows, weights):
        return grouped_linear(rows, weights, ends, transposed=transposed)

    assert torch.autograd.gradcheck(run, (rows, weights))
    run(rows, weights).sum().backward()
    assert weights.grad.is_contiguous()
    assert weights.grad[1].abs().max() == 0


@LAYOUTS
def test_torchs_own_operator_does_the_same(transposed):
    # On a CPU, where it loops as ours does: offsets, layouts and gradients are those of the GPU's kernel.
    rows, weights, ends = operands(transposed, torch.bfloat16)
    found = torch_grouped_linear(rows, weights, ends, transposed=transposed)
    mine = grouped_linear(rows, weights, ends, transposed=transposed)
    torch.testing.assert_close(found, mine)
    weight = torch.randn_like(found)
    wanted = torch.autograd.grad((mine * weight).sum(), (rows, weights))
    for one, other in zip(torch.autograd.grad((found * weight).sum(), (rows, weights)), wanted, strict=True):
        torch.testing.assert_close(one, other)


@LAYOUTS
def test_the_operator_keeps_torchs_rules(transposed):
    torch.library.opcheck(torch.ops.mretrieve.grouped_linear, (*operands(transposed), transposed))


@pytest.mark.parametrize(
    ("capability", "dtype", "widths", "wanted"),
    [
        ((9, 0), torch.bfloat16, (768, 3072), True),
        ((10, 0), torch.bfloat16, (768, 3072), True),
        ((8, 0), torch.bfloat16, (768, 3072), False),
        ((12, 0), torch.bfloat16, (768, 3072), False),
        ((9, 0), torch.float32, (768, 3072), False),
        ((9, 0), torch.bfloat16, (768, 3076), False),  # rows of 6152 bytes, no multiple of 16
    ],
)
def test_where_torch_has_a_kernel(capability, dtype, widths, wanted, monkeypatch):
    monkeypatch.setattr(grouped, "compute_capability", lambda device: capability)
    assert has_kernel(torch.device("cuda"), dtype, *widths) is wanted
    assert not has_kernel(torch.device("cpu"), dtype, *widths)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@LAYOUTS
def test_the_kernel_of_a_gpu(transposed):
    if not has_kernel(torch.device("cuda"), torch.bfloat16, 8, 16):
        pytest.skip("torch has no grouped matrix product for this GPU")
    rows, weights, ends = operands(transposed, torch.bfloat16)
    wanted = piece_by_piece(rows, weights, transposed=transposed)
    gradients = torch.autograd.grad(wanted.square().sum(), (rows, weights))
    on_gpu = [tensor.detach().cuda() for tensor in (rows, weights)]
    for tensor in on_gpu:
        tensor.requires_grad_()
    ends = ends.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = grouped_linear(*on_gpu, ends, transposed=transposed)
        mine = torch.autograd.grad(found.square().sum(), on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.cpu(), wanted, rtol=0.02, atol=0.02)
    for one, other in zip(mine, gradients, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=0.05, atol=0.3)
