"""Words cut side by side, against the library that cuts them one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.tokenize import LibraryTokenizer
from mretrieve.encode.word_pieces import WordPieces, word_pieces

WORDS = [
    "habari", "asubuhi", "uebersetzungswissenschaftlerin", "3.14", "don't", "...", "a", "ı",
    "व्याकरण", "ไทย", "中文", "ދިވެހި", "ⵜⴰⵎⴰⵣⵉⵖⵜ", "\U0001f600", "\U0001f9ff\U0001faff",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder():
    return find_checkpoint("e5-small").folder


@pytest.fixture(scope="module")
def library(folder):
    return LibraryTokenizer(folder)


def test_words_are_cut_as_the_library_cuts_them(folder, library):
    assert word_pieces(folder).cut(WORDS) == library.pieces(WORDS)


def test_a_small_vocabulary_by_hand():
    """`ab` and `c` are worth -3, `a` and `bc` -4, single letters -6."""
    scores = np.array([-5, -2, -2, -2, -1, -2, -1, -9], np.float32)
    small = WordPieces(["▁", "a", "b", "c", "ab", "bc", "▁c", "cd"], scores, -20.0, refused={"!"})
    found = small.cut(["abc", "c", "cabc", "a?b", "a!", "", "a b", "a\0b", "▁a", "ad", "b" * 40])
    assert found[:4] == [["▁", "ab", "c"], ["▁c"], ["▁c", "ab", "c"], ["▁", "a", "?", "b"]]
    assert found[4:] == [None] * 7


LETTERS = "abcde.,!-'1é" + "ａ½µ" + "सि्क्ष" + "กา" + "中文" + "\u0301\u200b\ufeffⵜ\U0001f600<>\u2581\x00\x01\t"


@given(st.lists(st.text(st.sampled_from(LETTERS), max_size=36), max_size=6))
@settings(max_examples=300, deadline=None)
def test_what_is_cut_is_cut_rightly(words):
    tokenizer = _library()
    found = word_pieces(find_checkpoint("e5-small").folder).cut(words)
    for word, pieces in zip(words, found, strict=True):
        assert pieces is None or pieces == tokenizer.pieces([word])[0]


def test_most_words_are_cut_here(folder):
    found = word_pieces(folder).cut(["voiture", "कक्षा", "ไทย", "ｗｉｄｅ", "two words", "<s>"])
    assert [pieces is None for pieces in found] == [False] * 3 + [True] * 3


_KEPT: list[LibraryTokenizer] = []


def _library():
    if not _KEPT:
        _KEPT.append(LibraryTokenizer(find_checkpoint("e5-small").folder))
    return _KEPT[0]
