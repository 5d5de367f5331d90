import pytest
from mretrieve.ui.handlers import EMPTY_QUERY, NO_INDEX, Handlers
from mretrieve.ui.library import Library

CONTROLS = ("small", "hybrid", [], 10)


@pytest.fixture(scope="module")
def handlers(small_index, sparse_index):
    return Handlers(Library([small_index, sparse_index]))


def test_searching(handlers):
    html = handlers.search("the cat", *CONTROLS)
    assert html.count('<article class="hit"') == 6
    assert '<mark class="word">cat</mark>' in html


@pytest.mark.parametrize("query", ["", "  \n"])
def test_empty_queries(handlers, query):
    assert handlers.search(query, *CONTROLS) == EMPTY_QUERY
    assert handlers.compare(query, ["small", "dense"], ["small", "bm25"]) == EMPTY_QUERY
    assert handlers.routing(query, "sparse") == EMPTY_QUERY
    assert "6 passages" in handlers.search_again(query, *CONTROLS)  # nothing was asked yet


def test_without_indexes():
    handlers = Handlers(Library([]))
    for html in (
        handlers.welcome(""),
        handlers.search("cat", "", "hybrid", [], 10),
        handlers.compare("cat", [], []),
        handlers.facts(""),
    ):
        assert html == NO_INDEX
    assert handlers.sides() == [] and handlers.sparse_indexes() == []


def test_errors_are_told_in_words(handlers):
    html = handlers.search("cat", "other", "hybrid", [], 10)
    assert 'role="alert"' in html and "There is no index &#x27;other&#x27;" in html
    assert "replaced" in handlers.similar({"row": 99, "doc_id": "x"}, *CONTROLS)
    assert "Choose what to compare" in handlers.compare("cat", [], ["small", "dense"])
    assert "no layers of experts" in handlers.routing("cat", "small")


def test_what_nobody_foresaw_is_logged_and_not_shown(handlers, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("secret /path")

    monkeypatch.setattr("mretrieve.ui.actions.find", broken)
    html = handlers.search("cat", *CONTROLS)
    assert "secret" not in html and "The server failed" in html
    assert "secret /path" in caplog.text


@pytest.mark.parametrize("hit", [{}, {"row": "x", "doc_id": 1}, {"row": None, "doc_id": "cat"}])
def test_what_no_page_sends(handlers, hit, caplog):
    assert 'role="alert"' in handlers.similar(hit, *CONTROLS)
    assert 'role="alert"' in handlers.explanation_of(hit)


def test_explaining_a_hit(handlers):
    hit = {"index": "small", "query": "cats", "mode": "bm25", "languages": "en,de", "row": 0, "doc_id": "cat"}
    html = handlers.explanation_of(hit)
    assert "DefaultEnglishAnalyzer" in html and ">cat</span>" in html


def test_sentences(handlers):
    asked = {"index": "small", "query": "cat", "rows": [0, 1]}
    assert handlers.sentences_of(asked) == {}  # each passage is one sentence
    assert handlers.sentences_of({**asked, "rows": [99]}) == {}


def test_comparing(handlers):
    html = handlers.compare("cat", ["small", "dense"], ["sparse", "hybrid"])
    assert "small · Dense" in html and "sparse · Hybrid" in html
    assert [side for _, side in handlers.sides()][:3] == [
        ["small", mode] for mode in ("hybrid", "dense", "bm25")
    ]


def test_experts(handlers):
    assert handlers.sparse_indexes() == ["sparse"]
    assert "<svg" in handlers.routing("the cab", "sparse")
    assert "in each of the layers" in handlers.facts("sparse")
    assert "in each of the layers" not in handlers.facts("small")
