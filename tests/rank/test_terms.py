from concurrent.futures import ThreadPoolExecutor

import pytest

from mretrieve import Retriever
from mretrieve.rank.explain import search_explained
from mretrieve.rank.terms import analyze, find_terms, term_scores


@pytest.fixture(scope="module")
def retriever(small_index):
    return Retriever(small_index)


def found_in(text, lang, query):
    """The words of a text that are a query's."""
    places = find_terms(text, lang, analyze(query, lang, query=True))
    return [text[start:end] for start, end in places]


def test_scores_of_terms_add_up_to_what_a_search_gives(retriever):
    (hit,) = search_explained(retriever, "the cat sat, the cat", mode="bm25", top_k=1).hits
    scores = term_scores(retriever, "the cat sat, the cat", hit.row)
    assert {one.term for one in scores if not one.is_piece} == {"cat", "sat"}
    assert {one.term for one in scores if one.is_piece} == {"▁the", "▁cat", "▁sat"}
    assert sum(one.score for one in scores) == pytest.approx(hit.hit.bm25_score, rel=1e-5)
    (cat,) = (one for one in scores if one.term == "cat")
    assert (cat.frequency, cat.documents) == (2, 2)  # in the title and in the text; in both English documents


@pytest.mark.parametrize(("query", "term"), [("النهر", "نهر"), ("แม่น้ำ", "แม่")])
def test_scores_of_terms_in_other_scripts(retriever, query, term):
    (hit,) = search_explained(retriever, query, mode="bm25", top_k=1).hits
    scores = term_scores(retriever, query, hit.row)
    assert term in {one.term for one in scores}
    assert sum(one.score for one in scores) == pytest.approx(hit.hit.bm25_score, rel=1e-5)


def test_a_document_without_the_query_s_terms_has_no_scores(retriever):
    row = search_explained(retriever, "dog", mode="bm25", top_k=1).hits[0].row
    assert term_scores(retriever, "steam", row) == []


def test_analyzers_terms():
    assert analyze("The cats sat", "en") == ["cat", "sat"]
    assert analyze("الجبال العالية", "ar") == ["جبال", "عال"]
    assert analyze("แม่น้ำ", "th", query=True)[0] == "แม่"
    assert analyze("Hồ Gươm", "vi") == analyze("hồ gươm", "vi")


def test_words_are_found_in_any_form():
    assert found_in("A cat and CATS, no category.", "en", "my cat") == ["cat", "CATS"]
    assert found_in("ينبع النهر من الجبال العالية.", "ar", "نهر وجبال") == ["النهر", "الجبال"]
    assert found_in("元仁宗的儿子", "zh", "仁宗") == ["仁宗"]
    assert found_in("Jacksonville nằm ở quận Duval.", "vi", "quận nào?") == ["quận"]


def test_places_count_characters_and_not_utf16():
    assert found_in("😀😀 two cats 🐈", "en", "cat") == ["cats"]


def test_places_in_unspaced_text_are_those_of_the_text_and_not_of_its_composed_form():
    # The vowel sign of น้ำ becomes two characters in the form that is indexed.
    assert found_in("ในแม่น้ำนี้", "th", "แม่น้ำ") == ["แม่น้ำ"]
    assert found_in("ปี ๒๕๖๐", "th", "2560") == ["๒๕๖๐"]


def test_texts_without_anything_to_find():
    assert found_in("", "en", "cat") == []
    assert found_in("a dog", "en", "cat") == []
    assert found_in("a dog", "en", "?!") == []


def test_half_a_character_does_no_harm():
    assert analyze("cat \ud800 dog", "en") == ["cat", "dog"]


def test_analyzers_can_be_used_by_threads_at_once():
    texts = [f"cats number {n} sat on mats" for n in range(40)]
    expected = [analyze(text, "en") for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: analyze(text, "en"), texts)) == expected
