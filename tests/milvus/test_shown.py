"""A collection in Milvus Lite behind the search page and behind a server."""

import pytest

from mretrieve.errors import InputError
from mretrieve.milvus import shown
from mretrieve.milvus.shown import CollectionRetriever, FoundDocuments
from mretrieve.rank.explain import search_explained, similar
from mretrieve.types import Hit, Query
from tests.conftest import COLLECTION

QUERY = "a cat in the garden"


@pytest.fixture
def collection_retriever(filled):
    found = CollectionRetriever(filled, with_legs=True)
    yield found
    found.index.close()


def test_it_finds_what_the_plain_one_finds(collection_retriever, retriever):
    for mode in ("hybrid", "dense", "bm25"):
        ours = collection_retriever.search(QUERY, mode=mode, lang="en")
        expected = retriever.search(QUERY, mode=mode, lang="en")
        assert [(hit.doc_id, hit.text) for hit in ours] == [(hit.doc_id, hit.text) for hit in expected]
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in expected], abs=1e-6)


def test_parts_of_a_score_are_those_of_the_legs(collection_retriever):
    answer = search_explained(collection_retriever, QUERY, lang="en")
    assert answer.mode == "hybrid"
    for found in answer.hits:
        parts = found.dense_part + found.bm25_part + found.unseen_part
        assert parts == pytest.approx(found.hit.score, abs=1e-6)
    best = answer.hits[0]
    assert (
        best.hit.dense_rank
        and best.hit.bm25_rank
        and best.bm25_part == pytest.approx(1 / (60 + best.hit.bm25_rank))
    )


def test_what_it_says_of_itself(collection_retriever):
    manifest = collection_retriever.index.manifest
    assert manifest.documents == len(COLLECTION)
    counts = {lang: entry.documents for lang, entry in manifest.languages.items()}
    expected: dict[str, int] = {}
    for record in COLLECTION:
        lang = record.get("lang") or "und"
        expected[lang] = expected.get(lang, 0) + 1
    assert sum(counts.values()) == len(COLLECTION) and counts["de"] == expected["de"]
    assert not collection_retriever.index.is_replaced


def test_only_documents_in_some_languages(collection_retriever):
    for mode in ("hybrid", "dense", "bm25"):
        hits = collection_retriever.search(QUERY, mode=mode, lang="en", languages=["de", "ar"])
        assert {hit.lang for hit in hits} <= {"de", "ar"}
        assert bool(hits) == (mode != "bm25")  # English words are in no German document
    assert {hit.lang for hit in collection_retriever.search(QUERY, languages=["en"])} == {"en"}


def test_passages_like_one_that_was_found(collection_retriever):
    [ranked] = collection_retriever.rank([Query("1", QUERY, "en")], top_k=1)
    row = int(ranked.ranking.rows[0])
    [document] = collection_retriever.index.documents.get([row])
    found = similar(collection_retriever, row, top_k=3)
    assert len(found.hits) == 3 and document.doc_id not in {one.hit.doc_id for one in found.hits}


def test_documents_keep_their_number_until_others_came(monkeypatch):
    monkeypatch.setattr(shown, "KEPT", 2)
    documents = FoundDocuments()
    a, b, c = (Hit(name, 1.0, 1, "", f"text {name}", "en") for name in "abc")
    assert documents.number([a, b]).tolist() == [0, 1]
    assert documents.number([b, a]).tolist() == [1, 0]
    assert documents.number([c]).tolist() == [2] and len(documents) == 3
    assert [one.text for one in documents.get([0, 2])] == ["text a", "text c"]
    assert documents.doc_ids([0, 1, 2]) == ["a", "", "c"]
    with pytest.raises(InputError, match="search again"):
        documents.get([1])
    assert documents.number([b]).tolist() == [3]  # never that of another


def test_a_server_answers_from_it(filled, retriever):
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    from pathlib import Path

    from mretrieve.serve.settings import Settings
    from tests.serve.live import live

    with live(Settings(indexes=(Path(f"docs={filled}"),))) as server:
        [card] = server.http.get("/v1/indexes").json()["data"]
        assert (card["id"], card["documents"], card["fusion"]) == ("docs", len(COLLECTION), "rrf:60")
        assert card["modes"] == ["hybrid", "dense", "bm25"] and card["languages"]["de"]["bm25"]
        for mode in ("hybrid", "dense", "bm25"):
            reply = server.json("/v1/search", query=QUERY, lang="en", mode=mode, top_k=4)
            expected = retriever.search(QUERY, lang="en", mode=mode, top_k=4)
            assert [hit["doc_id"] for hit in reply["hits"]] == [hit.doc_id for hit in expected]
        only = server.json("/v1/search", query=QUERY, languages=["ar"], mode="dense")
        assert {hit["lang"] for hit in only["hits"]} == {"ar"}
        status, error = server.error("/v1/search", query=QUERY, mode="words")
        assert status == 400 and error["param"] == "mode"


def test_the_page_shows_it(filled):
    pytest.importorskip("gradio", reason="the extra `ui` is not installed")
    from pathlib import Path

    from mretrieve.ui.handlers import Handlers
    from mretrieve.ui.library import Library

    library = Library([Path(filled)])
    [name] = library.names
    handlers = Handlers(library)
    assert f"{len(COLLECTION)} passages" in handlers.welcome(name)
    cards = handlers.search(QUERY, name, "hybrid", [], 5)
    assert 'data-id="cat"' in cards and "error" not in cards
    assert "Milvus, flat" in handlers.facts(name)
    row = int(library[name].index.documents.number([library[name].search(QUERY, top_k=1)[0]])[0])
    hit = {"row": row, "doc_id": "", "query": QUERY, "index": name, "mode": "hybrid", "languages": ""}
    assert "Milvus does not tell" in handlers.explanation_of(hit)
    library[name].index.close()
