import tracemalloc
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mretrieve.datasets.chunking import _sentences, _weight, chunk_text


def texts(text, **settings):
    return [chunk.text for chunk in chunk_text([text], **settings)]


def sentences(text):
    return [sentence.strip() for sentence in _sentences([text], 1000)]


@pytest.mark.parametrize(
    "expected",
    [
        ["One is here.", "Two? Yes!", "“Three.”", "Four… Five"],
        ["Dr.", "J. K. Rowling met A. Smith on 3. Mai 2020.", "They spoke, e.g. about this."],
        ["No end after 1.5 or in a.b.c here.", "End"],
        ["Γιατί;", "Έτσι.", "Τέλος"],
    ],
)
def test_sentences_in_alphabets_end_before_a_space(expected):
    cut = sentences(" ".join(expected))
    assert " ".join(cut) == " ".join(expected)
    assert cut == [
        part for whole in expected for part in whole.replace("? Y", "?|Y").replace("… F", "…|F").split("|")
    ]


def test_sentences_in_other_scripts():
    assert sentences("日本語です。「はい。」本当？ええ！終") == [
        "日本語です。",
        "「はい。」",
        "本当？",
        "ええ！",
        "終",
    ]
    assert sentences("यह है। वह है॥ क्या? हाँ") == ["यह है।", "वह है॥", "क्या?", "हाँ"]
    assert sentences("هل هذا صحيح؟ نعم. یہ ہے۔ اچھا") == ["هل هذا صحيح؟", "نعم.", "یہ ہے۔", "اچھا"]
    assert sentences("ሰላም ነው። እሺ") == ["ሰላም ነው።", "እሺ"]
    assert sentences("ខ្ញុំ​ទៅ។ បាទ") == ["ខ្ញុំ​ទៅ។", "បាទ"]
    assert sentences("သွားသည်။ ဟုတ်ကဲ့") == ["သွားသည်။", "ဟုတ်ကဲ့"]


def test_scripts_that_set_spaces_between_phrases_are_cut_there():
    assert sentences("ประเทศไทย มีเมืองหลวง ชื่อ Bangkok ครับ") == ["ประเทศไทย", "มีเมืองหลวง", "ชื่อ Bangkok ครับ"]


def test_paragraphs_headings_and_items_stand_for_themselves():
    text = "a paragraph\nin two lines\n\nanother\n# Heading\n- item\n2. item\nend"
    assert sentences(text) == ["a paragraph\nin two lines", "another", "# Heading", "- item", "2. item\nend"]


def test_a_short_text_is_one_chunk():
    assert texts("  Only this. And that.\n") == ["Only this. And that."]
    assert texts("") == texts(" \n\t ") == []


def test_chunks_share_a_sentence():
    text = "Aaaa aaa. Bbbb bbb. Cccc ccc. Dddd ddd."  # four sentences of 9 and a space
    assert texts(text, size=20, overlap=10) == [
        "Aaaa aaa. Bbbb bbb.",
        "Bbbb bbb. Cccc ccc.",
        "Cccc ccc. Dddd ddd.",
    ]
    assert texts(text, size=30, overlap=10) == ["Aaaa aaa. Bbbb bbb. Cccc ccc.", "Cccc ccc. Dddd ddd."]
    assert texts(text, size=20, overlap=0) == ["Aaaa aaa. Bbbb bbb.", "Cccc ccc. Dddd ddd."]


def test_a_long_sentence_is_not_shared():
    text = "A short one. " + "This one is much longer than the overlap may be. " + "The end."
    assert texts(text, size=62, overlap=12)[1:] == ["The end."]


def test_cjk_characters_count_twice():
    assert texts("中文。" * 4, size=12, overlap=0) == ["中文。中文。", "中文。中文。"]
    assert texts("abc. " * 4, size=12, overlap=0) == ["abc. abc.", "abc. abc."]


def test_chunks_know_their_lines():
    chunks = list(chunk_text(["\n\nOne. Two.\nThree.\n\n\nFour.\n"], size=14, overlap=5, first_line=11))
    assert [(chunk.line, chunk.text) for chunk in chunks] == [
        (13, "One. Two."),
        (13, "Two.\nThree."),
        (17, "Four."),
    ]


def test_a_sentence_without_end_is_cut_at_commas_then_spaces_then_anywhere():
    assert texts("aaaa bbbb, cccc dddd eeee", size=15, overlap=0) == ["aaaa bbbb,", "cccc dddd eeee"]
    assert texts("aaaa bbbb cccc dddd", size=12, overlap=0) == ["aaaa bbbb", "cccc dddd"]
    assert texts("x" * 25, size=10, overlap=0) == ["x" * 10, "x" * 10, "x" * 5]
    assert texts("一二三四、五六七八九十", size=14, overlap=0) == ["一二三四、", "五六七八九十"]
    assert texts("一二三四五六七八九十", size=14, overlap=0) == ["一二三四五六七", "八九十"]


def test_a_cut_anywhere_keeps_letters_with_their_marks_and_short_words_whole():
    thai = texts("เก็บ" * 30, size=41, overlap=0)
    assert "".join(thai) == "เก็บ" * 30
    assert not any(chunk.endswith("เ") for chunk in thai)
    assert not any(unicodedata.category(chunk[0]).startswith("M") for chunk in thai)
    assert texts("中中中中Wikipedia中中", size=12, overlap=0) == ["中中中中", "Wikipedia中", "中"]


WORDS = st.text(alphabet="abcäñжд", min_size=1, max_size=9)


@given(
    words=st.lists(
        st.tuples(WORDS, st.sampled_from([" ", ". ", "? ", ", ", "\n", "\n\n"])), min_size=1, max_size=80
    ),
    size=st.integers(12, 60),
    cuts=st.lists(st.integers(0, 400), max_size=4),
)
def test_every_word_comes_whole_and_in_order(words, size, cuts):
    text = "".join(word + mark for word, mark in words)
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    blocks = [text[start:end] for start, end in zip(borders, borders[1:], strict=False)]
    assert "".join(_sentences(blocks, size)) == text
    chunks = [chunk.text for chunk in chunk_text([text], size=size, overlap=0)]
    assert max(map(_weight, chunks)) <= size
    assert " ".join(chunks).split() == text.split()


@given(text=st.text(alphabet="ab. 中。ก็เ\n،😀é\u200d", max_size=300), size=st.integers(2, 40))
def test_any_text_is_covered_by_chunks_of_the_size(text, size):
    chunks = [chunk.text for chunk in chunk_text([text], size=size, overlap=0)]
    assert "".join("".join(chunks).split()) == "".join(text.split())
    assert all(0 < _weight(chunk) <= size for chunk in chunks)


def test_memory_does_not_grow_with_the_text():
    blocks = ("This is a sentence that comes again and again. " * 200 for _ in range(300))  # 2.9 MB in all
    tracemalloc.start()
    count = sum(1 for _ in chunk_text(blocks))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 2_900
    assert peak < 500_000


@pytest.mark.parametrize(("size", "overlap"), [(1, 0), (10, 10), (10, -1)])
def test_impossible_sizes_are_refused(size, overlap):
    with pytest.raises(ValueError, match="size must be at least 2"):
        list(chunk_text(["text"], size=size, overlap=overlap))
