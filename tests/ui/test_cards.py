import re

import pytest
from mretrieve.ui.cards import Card, Question, language_name, message, results, shorten, snippet, welcome
from mretrieve.ui.examples import Example

from mretrieve.rank.explain import Found
from mretrieve.types import Hit


def hit(doc_id="d1", text="The cat sat.", lang="en", **more):
    return Hit(doc_id=doc_id, score=1.5, rank=1, title="", text=text, lang=lang, **more)


def found(hit, **more):
    return Found(hit, 7, **more)


BOTH = {"dense_score": 0.91234, "dense_rank": 2, "bm25_score": 12.345, "bm25_rank": 1}
QUESTION = Question("demo", "cat?", "hybrid", "en", seconds=0.0123)


def test_a_card_has_all_of_a_hit():
    html = results(QUESTION, [Card(found(hit(**BOTH), dense_level=0.5, bm25_level=1.0), [(4, 7)])])
    assert 'The <mark class="word">cat</mark> sat.' in html
    assert 'data-row="7"' in html and 'data-id="d1"' in html
    assert ">English</span>" in html
    assert "--level:50%" in html and "0.912 · #2" in html
    assert "--level:100%" in html and "12.3 · #1" in html
    assert "1 passage · 12 ms · read as English" in html
    assert 'data-mode="hybrid"' in html


def test_everything_from_outside_is_escaped():
    evil = '<script>alert("x")</script>'
    one = Hit(doc_id=evil, score=1, rank=1, title=evil, text=evil, lang="en")
    html = results(Question(evil, evil, "dense", "en", [evil]), [Card(found(one), [(0, 8)])])
    assert "<script" not in html
    assert html.count("alert(&quot;x&quot;)") == 7  # index, query, languages, the id twice, title, text
    assert "<script" not in message(evil, evil)
    assert "<script" not in welcome([Example(evil, "en", "d1", "en")], documents=1, languages=1)


def test_right_to_left_cards():
    html = results(QUESTION, [Card(found(hit(text="النهر", lang="ar", **BOTH)))])
    assert re.search(r'<article class="hit" dir="rtl"', html)
    assert re.search(r'<p class="passage" lang="ar" dir="rtl">', html)
    assert '<footer dir="ltr">' in html


def test_legs_that_say_nothing_say_why():
    only_dense = found(hit(dense_score=0.8, dense_rank=1), dense_level=1.0, unseen_part=0.4)
    assert "other language" in results(QUESTION, [Card(only_dense)])
    no_word = found(hit(dense_score=0.8, dense_rank=1), dense_level=1.0)
    assert "no word" in results(QUESTION, [Card(no_word)])
    html = results(Question("demo", "q", "dense"), [Card(no_word)])
    assert "BM25" not in html


def test_the_closest_sentence_is_asked_for_only_where_it_is_wanted():
    assert "data-sentence" in results(QUESTION, [Card(found(hit()), wants_sentence=True)])
    assert "data-sentence" not in results(QUESTION, [Card(found(hit()))])


def test_similar_has_a_way_back():
    html = results(Question("demo", "النهر الطويل", "hybrid", row=3), [Card(found(hit()))])
    assert "data-back" in html and '<q dir="rtl">' in html
    assert "data-back" not in results(QUESTION, [Card(found(hit()))])


def test_nothing_found_and_errors_are_told():
    assert "Nothing found" in results(QUESTION, [])
    assert 'role="alert"' in message("a", "b", kind="error")
    assert 'role="status"' in message("a", "b")


def test_welcome():
    html = welcome(
        [Example("Wo?", "de", "d", "de"), Example("Who?", "en", "d", "hi")], documents=1234, languages=3
    )
    assert "1,234 passages in 3 languages" in html
    assert 'data-pick="Wo?"' in html
    assert "English → Hindi" in html and "German →" not in html
    assert "chip" not in welcome([], documents=5, languages=1)


@pytest.mark.parametrize(
    ("code", "name"),
    [("ar", "Arabic"), ("und", "Unknown language"), ("", "Unknown language"), ("bem", "bem")],
)
def test_language_names(code, name):
    assert language_name(code) == name


def test_texts_are_shortened_at_spaces():
    assert shorten("short", 10) == "short"
    assert shorten("one two three four", 11) == "one two …"
    assert shorten("一二三四五六", 4) == "一二三四 …"


def test_snippets_begin_near_the_first_word():
    text = "padding " * 60 + "the cat sat on the mat"
    place = text.index("cat")
    html = snippet(text, [(place, place + 3)])
    assert html.startswith("… ") and '<mark class="word">cat</mark>' in html
    assert len(html) < 300
    assert snippet("a cat", [(2, 5)]) == 'a <mark class="word">cat</mark>'
    assert snippet("x" * 500, []) == "x" * 220 + " …"
