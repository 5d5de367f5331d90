import base64
import struct

import pytest
from tokenizers import Tokenizer

from mretrieve.models.unigram import unigram_tokenizer_json

SPECIAL = {"bos": 0, "pad": 1, "eos": 2, "unk": 3}


def make(pieces, normalizer):
    full = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces, ("<mask>", 0.0)]
    import json

    return Tokenizer.from_str(json.dumps(unigram_tokenizer_json(full, normalizer, special=SPECIAL)))


def test_the_likeliest_segmentation_wins():
    pieces = [("▁", -3.0), ("a", -2.0), ("b", -2.0), ("▁a", -4.0), ("ab", -3.5), ("▁ab", -9.0)]
    # ▁a + b = -6, ▁ + ab = -6.5, ▁ + a + b = -7, ▁ab = -9
    assert make(pieces, {}).encode("ab").tokens == ["<s>", "▁a", "b", "</s>"]


def test_unknown_characters_count_one_by_one():
    tokens = make([("▁", -3.0), ("a", -2.0)], {}).encode("aꓘꓘa").tokens
    assert tokens == ["<s>", "▁", "a", "ꓘ", "ꓘ", "a", "</s>"]


def test_the_normaliser_replaces_deletes_and_leaves_all_else():
    table = {0xFB01: "fi", 0x00: "", 0x0B: "", 0x3000: " ", 0x1F100: "0."}
    table.pop(0)
    tokenizer = make([("▁", -1.0)], table)
    assert tokenizer.normalizer.normalize_str("ﬁ\x0bx　y🄀 é ḁ が") == "fix y0. é ḁ が"


@pytest.mark.parametrize("count", [1, 40, 700])
def test_no_two_nodes_of_the_double_array_share_a_base(count):
    """A reader sees labels only, so two nodes with one base would find each other's children."""
    table = {0x100 + 7 * i: "x" for i in range(count)}
    tokenizer = make([("▁", -1.0)], table)
    every = [chr(point) for point in range(0xA0, 0x100 + 7 * count + 20) if not 0x300 <= point < 0x370]
    wrong = [c for c in every if tokenizer.normalizer.normalize_str(c) != table.get(ord(c), c)]
    assert not wrong


def test_the_trie_is_in_the_layout_of_sentencepiece():
    full = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), ("<mask>", 0.0)]
    tokenizer = unigram_tokenizer_json(full, {0x41: "a"}, special=SPECIAL)
    blob = base64.b64decode(tokenizer["normalizer"]["normalizers"][0]["precompiled_charsmap"])
    (size,) = struct.unpack_from("<I", blob)
    units = struct.unpack_from(f"<{size // 4}I", blob, 4)
    assert size % 1024 == 0
    assert blob[4 + size :] == b"a\0"
    child = (units[0] >> 10) ^ 0x41
    assert units[child] & 0xFF == 0x41
    assert units[child] >> 8 & 1 == 1
    assert units[child ^ (units[child] >> 10)] == 1 << 31
