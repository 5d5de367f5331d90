import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mretrieve.encode.pieces import cut_into_pieces
from mretrieve.index import pieces
from mretrieve.index.pieces import PieceMemory, join_pieces


def in_threes(texts):
    """Pieces of three characters; none crosses a space."""
    return [
        [
            piece
            for word in text.split()
            for piece in ("\u2581" + word[:3], *(word[i : i + 3] for i in range(3, len(word), 3)))
        ]
        for text in texts
    ]


def test_pieces_and_whole_words_are_the_terms():
    expected = "\u2581hab ari \u2581habari \u2581yak o! \u2581yako!"
    assert join_pieces(["Habari yako!", "?", ""], in_threes) == [expected, "", ""]


def test_a_word_is_cut_once(monkeypatch):
    asked = []

    def cut(texts):
        asked.extend(texts)
        return in_threes(texts)

    memory = PieceMemory(cut)
    first = memory.join(["one two one", "two three"])
    assert sorted(asked) == ["one", "three", "two"]
    assert memory.join(["Three ONE", "four"]) == join_pieces(["three one", "four"], in_threes)
    assert sorted(asked) == ["four", "one", "three", "two"]
    assert first == join_pieces(["one two one", "two three"], in_threes)


def test_neither_long_words_nor_too_many_are_kept(monkeypatch):
    monkeypatch.setattr(pieces, "_MOST_KNOWN", 3)
    asked = []

    def cut(texts):
        asked.extend(texts)
        return in_threes(texts)

    memory = PieceMemory(cut)
    long = "x" * 100
    assert memory.join([long, "a b c d"]) == join_pieces([long, "a b c d"], in_threes)
    memory.join([long, "a"])  # more words were known than should be, so all were forgotten
    assert asked.count(long) == 2 and asked.count("a") == 2
    memory.join(["a"])
    assert asked.count("a") == 2


TEXTS = st.text(
    st.sampled_from(
        "ab\u00e9\u0391\u03a3\u03c3\u00df\u0130\u4e2d\u6587\u0e01\u0e32"
        "\u3000\u00a0\n\t\u0301\ud83d \U0001f600,.!"
    ),
    max_size=40,
)


@given(st.lists(TEXTS, max_size=4))
@settings(max_examples=200, deadline=None)
def test_word_by_word_is_as_at_once(texts):
    """With the real vocabulary, on letters that lower case, normalisation and spaces treat in odd ways."""
    assert PieceMemory(cut_into_pieces).join(texts) == join_pieces(texts, cut_into_pieces)


@pytest.mark.parametrize("text", ["half \ud83d here", "\udc00"])
def test_half_a_character_does_no_harm(text):
    joined = join_pieces([text], cut_into_pieces)
    assert PieceMemory(cut_into_pieces).join([text]) == joined
    joined[0].encode()
