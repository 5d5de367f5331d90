import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mretrieve.models import attention as module
from mretrieve.models.attention import Attention, PackedLayout, PaddedLayout, has_varlen_kernel, rotary_for
from tests.models.nomic import tiny_config

LENGTHS = [4, 1, 4, 4, 7]


def test_positions_of_packed_texts_start_anew():
    layout = PackedLayout([2, 2, 3])
    assert layout.groups == [(2, 2), (3, 1)]
    assert layout.positions.tolist() == [0, 1, 0, 1, 0, 1, 2]
    assert layout.bounds.tolist() == [0, 2, 4, 7]
    assert layout.longest == 3


def test_no_texts():
    layout = PackedLayout([])
    assert layout.positions.shape == (0,)
    assert layout.bounds.tolist() == [0]
    assert layout.attend(*torch.zeros(3, 0, 2, 4)).shape == (0, 2, 4)


def test_padding_is_seen_by_nobody():
    torch.manual_seed(1)
    q, k, v = torch.randn(3, 1, 3, 2, 4)
    layout = PaddedLayout(torch.tensor([[1, 1, 0]]), shape=(1, 3), device=q.device)
    before = layout.attend(q, k, v)
    k[:, 2], v[:, 2] = 99.0, -99.0
    assert torch.equal(layout.attend(q, k, v), before)
    v[:, 1] += 1
    assert not torch.equal(layout.attend(q, k, v), before)


def test_a_text_of_padding_alone_sees_itself():
    torch.manual_seed(1)
    q, k, v = torch.randn(3, 2, 3, 2, 4)
    found = PaddedLayout(torch.tensor([[1, 1, 0], [0, 0, 0]]), shape=(2, 3), device=q.device).attend(q, k, v)
    plain = PaddedLayout(None, shape=(2, 3), device=q.device).attend(q, k, v)
    torch.testing.assert_close(found[1], plain[1])


def test_a_packed_text_sees_itself_only():
    torch.manual_seed(1)
    q, k, v = torch.randn(3, 5, 2, 4)
    layout = PackedLayout([2, 3])
    before = layout.attend(q, k, v)
    v[:2] += 1
    after = layout.attend(q, k, v)
    assert torch.equal(after[2:], before[2:])
    torch.testing.assert_close(after[:2], before[:2] + 1)


def test_both_layouts_agree_whatever_the_order_of_lengths():
    torch.manual_seed(1)
    config = tiny_config()
    attention = Attention(config)
    lengths = [4, 1, 4, 4]
    x = torch.randn(13, 32)
    packed = PackedLayout(lengths)
    flat = attention(x, packed, rotary_for(packed, config)).split(lengths)
    padded = torch.nn.utils.rnn.pad_sequence(x.split(lengths), batch_first=True)
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    layout = PaddedLayout(mask, shape=mask.shape, device=mask.device)
    rows = attention(padded, layout, rotary_for(layout, config))
    for row, one, length in zip(rows, flat, lengths, strict=True):
        torch.testing.assert_close(row[:length], one, rtol=0, atol=1e-6)


def test_absolute_positions_need_no_tables():
    assert rotary_for(PackedLayout([3]), tiny_config(position_embedding_type="absolute")) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_padded_copy_gives_what_groups_give(dtype):
    torch.manual_seed(1)
    layout = PackedLayout(LENGTHS)
    qkv = torch.randn(3, 20, 2, 4).to(dtype)
    weight = torch.randn(20, 2, 4)
    found = []
    for attend in (layout.attend_groups, layout.attend_padded):
        parts = [part.clone().requires_grad_() for part in qkv]
        mixed = attend(*parts)
        (mixed * weight).sum().backward()
        found.append([mixed, *(part.grad for part in parts)])
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for one, other in zip(*found, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def fake_queries(dtype, head_dim=16, n=20):
    with FakeTensorMode() as mode:
        return mode, torch.empty(n, 2, head_dim, dtype=dtype, device="cuda")


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "n", "wanted"),
    [
        ((9, 0), torch.bfloat16, 64, 20, True),
        ((8, 0), torch.float16, 64, 20, True),
        ((7, 5), torch.float16, 64, 20, False),
        ((9, 0), torch.float32, 64, 20, False),
        ((9, 0), torch.bfloat16, 20, 20, False),
        ((9, 0), torch.bfloat16, 264, 20, False),
        ((9, 0), torch.bfloat16, 64, 0, False),
    ],
)
def test_where_variable_length_attention_runs(capability, dtype, head_dim, n, wanted, monkeypatch):
    monkeypatch.setattr(module, "compute_capability", lambda device: capability)
    _, q = fake_queries(dtype, head_dim, n)
    assert has_varlen_kernel(q) is wanted
    assert not has_varlen_kernel(torch.empty(20, 2, head_dim, dtype=dtype))
    monkeypatch.setattr(module, "_HAS_VARLEN", False)  # torch 2.9
    assert not has_varlen_kernel(q)


@pytest.mark.parametrize(
    ("dtype", "way"), [(torch.bfloat16, "attend_varlen"), (torch.float32, "attend_padded")]
)
def test_a_gpu_attends_in_one_go_and_asks_nothing(dtype, way, monkeypatch):
    # Fake tensors: whatever asks for a value fails, and so does a call that torch does not know.
    monkeypatch.setattr(module, "compute_capability", lambda device: (9, 0))
    mode, q = fake_queries(dtype)
    layout = PackedLayout(LENGTHS)
    called = []
    original = getattr(PackedLayout, way)
    monkeypatch.setattr(PackedLayout, way, lambda *args: called.append(way) or original(*args))
    with mode, torch.no_grad():
        layout.bounds = torch.empty(6, dtype=torch.int32, device="cuda")
        layout.positions = torch.empty(20, dtype=torch.long, device="cuda")
        mixed = layout.attend(q, q, q)
    assert called == [way]
    assert (mixed.shape, mixed.dtype, mixed.device.type) == (q.shape, dtype, "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_what_the_cpu_gives(dtype):
    torch.manual_seed(1)
    qkv = torch.randn(3, 20, 2, 16).to(dtype)
    found = []
    for device in ("cpu", "cuda"):
        layout = PackedLayout(LENGTHS, device=torch.device(device))
        parts = [part.to(device).requires_grad_() for part in qkv]
        mixed = layout.attend(*parts)
        mixed.square().sum().backward()
        found.append([x.cpu() for x in (mixed, *(part.grad for part in parts))])
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
