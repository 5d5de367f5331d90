import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mretrieve.index.segment import document_terms, piece_terms, query_terms

KHMER_DIGITS = "\u17e2\u17e5\u17e3\u17e0"  # 2530


def test_documents_are_cut_into_all_runs_of_up_to_three():
    assert document_terms("ปูดำ") == ["ป", "ู", "ด", "ํ", "า", "ปู", "ูด", "ดํ", "ํา", "ปูด", "ูดํ", "ดํา"]


def test_queries_are_cut_into_runs_of_three():
    assert query_terms("ภาษาไทย") == ["ภาษ", "าษา", "ษาไ", "าไท", "ไทย"]


@pytest.mark.parametrize("query", ["ป", "ปู"])
def test_short_queries_stay_whole_and_are_found(query):
    assert query_terms(query) == [query]
    assert query in document_terms("กุ้งหอยปูปลา")


@pytest.mark.parametrize("text", ["ປາແດກ", "မြန်မာဘာသာ", "ភាសាខ្មែរ", "ภาษาไทย"], ids=["lo", "my", "km", "th"])
def test_all_four_scripts_are_cut(text):
    assert [len(term) for term in query_terms(text)] == [3] * (len(text) - 2)


def test_words_and_numbers_of_other_scripts_stay_whole_in_lower_case():
    assert query_terms("รถ Toyota2023 COVID-19") == ["รถ", "toyota2023", "covid", "19"]
    assert document_terms("Ελλάδα 中文") == ["ελλάδα", "中文"]


def test_digits_of_all_scripts_are_the_same():
    assert query_terms(KHMER_DIGITS) == query_terms("2530") == query_terms("๒๕๓๐") == ["2530"]


def test_punctuation_and_repetition_marks_end_a_run():
    assert query_terms("เด็กๆ") == query_terms("เด็ก") == ["เด็", "ด็ก"]
    assert query_terms("ខ្មែរ។ភាសា") == [*query_terms("ខ្មែរ"), *query_terms("ភាសា")]
    assert query_terms("?! ฯ ៛ ၊") == []


def test_spaces_of_no_width_make_no_difference():
    assert document_terms("ពាក្យ\u200bខ្មែរ") == document_terms("ពាក្យខ្មែរ")


def test_one_form_of_sara_am():
    assert query_terms("น\u0e33ตก") == query_terms("น\u0e4d\u0e32ตก")


def test_nothing_gives_no_terms():
    assert document_terms("") == query_terms(" \n") == []


BLOCKS = [(0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)]
OMISSION_AND_REPETITION = "\u0e2f\u0e46\u0eaf\u0ec6\u17d7\ua9e6\uaa70"


@pytest.mark.parametrize(("first", "last"), BLOCKS)
def test_every_letter_and_mark_is_cut_and_nothing_else(first, last):
    for letter in map(chr, range(first, last + 1)):
        run = unicodedata.normalize("NFKC", letter) * 3
        kind = unicodedata.category(letter)[0]
        if kind in "LM" and letter not in OMISSION_AND_REPETITION:
            assert run[:3] in query_terms(run), letter
        elif kind in "PS":
            assert query_terms(run) == [], letter


@given(
    st.text(
        alphabet=st.characters(min_codepoint=0x0E00, max_codepoint=0x0E7F) | st.sampled_from("a1 .\u200b")
    )
)
def test_a_text_has_all_terms_of_itself_as_query(text):
    assert set(query_terms(text)) <= set(document_terms(text))


@given(st.text())
def test_no_term_is_empty_or_holds_a_space(text):
    assert all(term and not any(map(str.isspace, term)) for term in document_terms(text))


def test_words_of_several_pieces_are_terms_too_and_punctuation_is_none():
    pieces = ["▁ha", "bari", ",", "▁", "ya", "ko", "▁leo", "?"]
    assert piece_terms(pieces) == ["▁ha", "bari", "▁habari", "ya", "ko", "yako", "▁leo"]


def test_pieces_of_marks_are_terms():
    assert piece_terms(["▁हिन्द", "ी", "।"]) == ["▁हिन्द", "ी", "▁हिन्दी"]


def test_no_pieces_give_no_terms():
    assert piece_terms([]) == []
