import re

import pytest
from mretrieve.ui.explanation import explanation, score_table, term_list, words_table

from mretrieve import Retriever
from mretrieve.errors import MissingDependencyError
from mretrieve.rank.explain import Found, search_explained
from mretrieve.rank.fusion import Fusion
from mretrieve.rank.terms import TermScore
from mretrieve.types import Hit


def test_parts_of_a_score():
    hit = Hit("d", 4.25, 1, "", "text", "en", dense_score=0.85, dense_rank=2, bm25_score=5.5, bm25_rank=3)
    html = score_table(Found(hit, 0, dense_part=2.75, bm25_part=1.5, fusion=Fusion.parse("zscore:0.5")))
    assert re.findall(r"number'>([\d.]+)<", html) == ["2.750", "1.500", "4.250"]
    assert "0.8500, rank 2" in html and "5.500, rank 3" in html and "joined by zscore:0.5" in html


def test_one_leg_alone_is_not_joined():
    hit = Hit("d", 0.85, 1, "", "text", "en", dense_score=0.85, dense_rank=1)
    html = score_table(Found(hit, 0, dense_part=0.85))
    assert "BM25" not in html and "joined" not in html
    unseen = Found(hit, 0, dense_part=0.6, unseen_part=0.25, fusion=Fusion.parse("zscore:0.5"))
    assert "did not look" in score_table(unseen)


def test_words_and_what_they_are_worth():
    html = words_table([TermScore("<cat>", 2.0, 3, 1234), TermScore("mat", 1.0, 1, 2)])
    assert "&lt;cat&gt;" in html and "3×" in html and "1,234" in html
    assert re.findall(r"--level:(\d+)%", html) == ["100", "50"]
    assert "none of the query" in words_table([])


def test_long_lists_of_terms_are_cut():
    html = term_list(["a"] * 200, ["a"])
    assert html.count("term shared") == 160 and "and 40 more" in html
    assert "shared" not in term_list(["<b>"], ["a"])


@pytest.fixture(scope="module")
def retriever(small_index):
    return Retriever(small_index)


def test_everything_about_a_hit(retriever):
    found = search_explained(retriever, "cats & dogs", top_k=1, mode="bm25").hits[0]
    html = explanation(retriever, "cats & dogs", found)
    assert "read as English (DefaultEnglishAnalyzer)" in html
    assert "<span class='term shared' dir='auto'>cat</span>" in html
    assert html.count("<table") == 2


def test_without_lucene_it_says_what_to_install(retriever, monkeypatch):
    found = search_explained(retriever, "cat", top_k=1, mode="dense").hits[0]

    def missing():
        raise MissingDependencyError("BM25 needs Lucene, which is not installed.")

    monkeypatch.setattr("mretrieve.rank.terms.start_jvm", missing)
    html = explanation(retriever, "cat", found)
    assert "BM25 needs Lucene" in html and "class='parts'" in html
