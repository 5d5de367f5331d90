import torch

from mretrieve.models.attention import Attention, PackedLayout, PaddedLayout, rotary_for
from tests.models.nomic import tiny_config


def test_positions_of_packed_texts_start_anew():
    layout = PackedLayout([2, 2, 3])
    assert layout.groups == [(2, 2), (3, 1)]
    assert layout.positions.tolist() == [0, 1, 0, 1, 0, 1, 2]


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
