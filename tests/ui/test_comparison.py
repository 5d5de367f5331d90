import re

from mretrieve.ui.cards import Card, Question
from mretrieve.ui.comparison import comparison, mode_name

from mretrieve.rank.explain import Found
from mretrieve.types import Hit


def side(index, mode, *ids):
    hits = [
        Hit(
            doc_id=one,
            score=1.0,
            rank=rank,
            title="",
            text=f"text of {one}",
            lang="en",
            dense_score=0.5,
            dense_rank=rank,
        )
        for rank, one in enumerate(ids, start=1)
    ]
    return Question(index, "q", mode, seconds=0.01), [Card(Found(hit, 0, dense_level=1.0)) for hit in hits]


def places(html):
    return re.findall(r'class="place[^>]*>([^<]*)<', html)


def test_each_hit_has_its_place_in_the_other_list():
    html = comparison(side("a", "hybrid", "x", "y", "z"), side("a", "dense", "y", "x", "w"))
    assert "2 of 3 passages are in both lists" in html
    assert places(html) == ["▲ 1", "▼ 1", "only here", "▲ 1", "▼ 1", "only here"]
    assert "a · Hybrid" in html and "a · Dense" in html


def test_equal_lists():
    html = comparison(side("a", "bm25", "x"), side("b", "bm25", "x"))
    assert places(html) == ["=", "="]
    assert "1 of 1" in html and "a · BM25" in html


def test_the_same_id_with_other_text_is_another_passage():
    left, right = side("a", "dense", "x"), side("b", "dense", "x")
    other = Card(Found(Hit("x", 1.0, 1, "", "something else", "en"), 0))
    assert places(comparison(left, (right[0], [other]))) == ["only here", "only here"]


def test_nothing_on_both_sides():
    assert "Nothing found" in comparison(side("a", "dense"), side("a", "bm25"))


def test_names_of_modes():
    assert [mode_name(mode) for mode in ("hybrid", "dense", "bm25")] == ["Hybrid", "Dense", "BM25"]
