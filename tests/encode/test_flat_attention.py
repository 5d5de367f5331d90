import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mretrieve.encode.flat_attention import CHUNK_SCORES, FlatAttention, Rotary, plan_chunks
from mretrieve.models.rotary import apply_rotary, rotary_tables

BATCHES = {
    "equal": [9] * 5,
    "sorted": [70, 64, 63, 50, 50, 49, 33, 20, 20, 12, 3, 1, 1],
    "unsorted": [3, 70, 1, 64, 20, 20, 63],
    "long": [300, 298],
    "one short text": [13],
    "one text that is not so short": [65],
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def qkv_of(lengths, heads, head_dim):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(sum(lengths), 3 * heads * head_dim, generator=generator)


def one_by_one(qkv, lengths, heads, rotary=None):
    """Attention as its definition says, text by text, in float64."""
    contexts = []
    for text in qkv.double().split(lengths):
        q, k, v = text.view(len(text), 3, heads, -1).unbind(1)
        if rotary is not None:
            cos, sin = rotary_tables(torch.arange(len(text)), **rotary)
            q, k = (apply_rotary(x, cos, sin, interleaved=True).double() for x in (q, k))
        scores = torch.einsum("ihd,jhd->hij", q, k) / q.shape[-1] ** 0.5
        contexts.append(torch.einsum("hij,jhd->ihd", scores.softmax(-1), v).flatten(1))
    return torch.cat(contexts)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("name", BATCHES)
def test_each_text_sees_itself(name, batched):
    lengths = BATCHES[name]
    qkv = qkv_of(lengths, 4, 8)
    attention = FlatAttention(4)
    found = attention(qkv, attention.plan(lengths, batched=batched), batched=batched)
    torch.testing.assert_close(found.double(), one_by_one(qkv, lengths, 4), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["one short text", "one text that is not so short", "equal"])
def test_the_quick_way_sees_the_same(name):
    lengths = BATCHES[name]
    qkv = qkv_of(lengths, 4, 8)
    attention = FlatAttention(4, quick_alone=True)
    found = attention(qkv, attention.plan(lengths, batched=True), batched=True)
    torch.testing.assert_close(found.double(), one_by_one(qkv, lengths, 4), rtol=0, atol=2e-6)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("dim", [8, 4])
def test_positions_turn_queries_and_keys(dim, batched):
    lengths = BATCHES["sorted"]
    qkv = qkv_of(lengths, 4, 8)
    attention = FlatAttention(4, Rotary(100, dim=dim, base=50.0, device=torch.device("cpu")))
    found = attention(qkv, attention.plan(lengths, batched=batched), batched=batched)
    wanted = one_by_one(qkv, lengths, 4, {"dim": dim, "base": 50.0})
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=5e-6)


def test_bfloat16_differs_by_its_rounding():
    lengths = BATCHES["sorted"]
    qkv = qkv_of(lengths, 4, 32).bfloat16()
    attention = FlatAttention(4, Rotary(100, dim=32, base=50.0, device=torch.device("cpu")))
    found = attention(qkv, attention.plan(lengths, batched=True), batched=True)
    wanted = one_by_one(qkv, lengths, 4, {"dim": 32, "base": 50.0})
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=0.03)


def test_what_lay_in_memory_before_does_not_matter(monkeypatch):
    lengths = [31, 20, 17]
    qkv = qkv_of(lengths, 4, 8)
    attention = FlatAttention(4)
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *s: empty(x, *s).fill_(torch.nan))
    found = attention(qkv, attention.plan(lengths, batched=True), batched=True)
    torch.testing.assert_close(found.double(), one_by_one(qkv, lengths, 4), rtol=0, atol=2e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ordered", [True, False])
def test_chunks_hold_each_text_once_and_little_else(seed, ordered):
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(4.4, 0.6, 60), 1, 512).astype(int).tolist()
    lengths = sorted(lengths, reverse=True) if ordered else lengths
    row = texts = used = filled = 0
    for chunk in plan_chunks(lengths, heads=12):
        assert chunk.n_texts == 1 or 12 * chunk.n_texts * chunk.length**2 <= CHUNK_SCORES
        place = 0
        for run in chunk.runs:
            assert (run.first_row, run.first_text) == (row, place)
            assert lengths[texts : texts + run.n_texts] == [run.length] * run.n_texts
            assert run.length <= chunk.length
            row, place, texts = run.rows.stop, run.texts.stop, texts + run.n_texts
        assert place <= chunk.n_texts
        used += sum(run.n_texts * run.length**2 for run in chunk.runs)
        filled += chunk.n_texts * chunk.length**2
    assert (row, texts) == (sum(lengths), len(lengths))
    assert filled < 1.25 * used


def test_texts_of_all_kinds_make_few_shapes():
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(1000):
        lengths = np.clip(rng.lognormal(4.4, 0.6, rng.integers(1, 30)), 1, 512).astype(int).tolist()
        shapes |= {(chunk.n_texts, chunk.length) for chunk in plan_chunks(sorted(lengths), heads=12)}
    assert len(shapes) < 120


def test_no_texts_are_no_chunks():
    assert plan_chunks([], heads=12) == []


def test_softmax_over_whole_rows_is_torchs_own():
    lengths = [40, 40]
    qkv = qkv_of(lengths, 2, 16)
    q, k, v = qkv.view(2, 40, 3, 2, 16).permute(2, 0, 3, 1, 4)
    wanted = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(80, 32)
    attention = FlatAttention(2)
    found = attention(qkv, attention.plan(lengths, batched=True), batched=True)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
