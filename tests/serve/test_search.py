import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pydantic import TypeAdapter

from mretrieve.indexing import build_index
from mretrieve.rank.retriever import Retriever
from mretrieve.serve.search import IndexList, SearchReply
from mretrieve.serve.settings import Settings
from tests.conftest import COLLECTION
from tests.serve.live import live

QUERIES = ["the cat in the garden", "alte Bäume im Wald", "النهر", "แม่น้ำ", "zzz"]


@pytest.fixture(scope="module")
def indexes(tmp_path_factory, collection, model, small_index):
    folder = tmp_path_factory.mktemp("indexes")
    build_index(collection, folder / "dense", model=str(model), lexical=False)
    build_index(collection, folder / "bm25", dense=False)
    return (small_index, folder / "dense", folder / "bm25")


@pytest.fixture(scope="module")
def server(indexes):
    with live(Settings(indexes=indexes)) as running:
        yield running


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_hits_are_those_of_the_retriever(server, small_index, mode):
    retriever = Retriever(small_index)
    for query in QUERIES:
        reply = server.json("/v1/search", query=query, index="small", mode=mode, top_k=4)
        expected = [hit.to_dict() for hit in retriever.search(query, mode=mode, top_k=4)]
        assert [hit.pop("score") for hit in reply["hits"]] == pytest.approx(
            [hit.pop("score") for hit in expected], abs=1e-5
        )
        for hit, other in zip(reply["hits"], expected, strict=True):
            assert hit.pop("dense_score") == pytest.approx(other.pop("dense_score"), abs=1e-5)
            assert hit == other


def test_a_reply_is_as_the_openapi_file_says(server):
    reply = server.json("/v1/search", query="the cat", index="small")
    SearchReply.model_validate(reply, strict=True)
    assert (reply["object"], reply["index"], reply["generation"]) == ("search", "small", 1)
    assert (reply["mode"], reply["lang"]) == ("hybrid", "en")
    times = reply["timings_ms"]
    assert times.keys() == {"total", "embed", "dense", "bm25"}
    assert times["total"] >= times["embed"] + times["dense"] + times["bm25"] > 0
    usage = reply["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"] > 2


def test_what_a_mode_does_not_need_is_not_done(server):
    bm25 = server.json("/v1/search", query="cat", index="small", mode="bm25")
    assert bm25["timings_ms"]["embed"] is bm25["timings_ms"]["dense"] is None
    assert bm25["usage"]["total_tokens"] == 0
    dense = server.json("/v1/search", query="cat", index="small", mode="dense")
    assert dense["timings_ms"]["bm25"] is dense["lang"] is None


def test_each_index_is_searched_as_well_as_it_can(server):
    assert server.json("/v1/search", query="cat", index="dense")["mode"] == "dense"
    assert server.json("/v1/search", query="cat", index="bm25")["mode"] == "bm25"
    status, error = server.error("/v1/search", query="cat", index="bm25", mode="dense")
    assert (status, error["param"], error["type"]) == (400, "mode", "invalid_request_error")
    assert (
        error["message"] == "The index 'bm25' cannot be searched with mode 'dense' here. Choose from: bm25."
    )


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_only_documents_in_the_languages_asked_for(server, mode):
    reply = server.json(
        "/v1/search", query="cat Wald", index="small", mode=mode, lang="en", languages=["de", "ar"]
    )
    assert reply["lang"] == "en"
    assert {hit["lang"] for hit in reply["hits"]} <= {"de", "ar"}
    assert {"hund", "baum"} <= {hit["doc_id"] for hit in reply["hits"]}


def test_the_query_language_is_given_or_found(server):
    def lang(**options):
        body = {"query": "der Hund lief durch den Wald", "index": "small", "mode": "bm25"}
        return server.json("/v1/search", **body, **options)["lang"]

    assert lang() == lang(lang="auto") == "de"
    assert lang(lang="en-GB") == "en"


def test_indexes_are_listed(server, indexes):
    listed = server.http.get("/v1/indexes").json()
    TypeAdapter(IndexList).validate_python(listed, strict=True)
    by_name = {one["id"]: one for one in listed["data"]}
    assert list(by_name) == ["bm25", "dense", "small"]
    small = by_name["small"]
    assert (small["documents"], small["generation"]) == (len(COLLECTION), 1)
    assert small["languages"]["de"] == {"documents": 2, "bm25": True}
    assert [by_name[name]["modes"][0] for name in by_name] == ["bm25", "dense", "hybrid"]
    assert by_name["bm25"]["model"] is by_name["bm25"]["dimensions"] is None
    assert small["dimensions"] == 32
    assert not by_name["dense"]["languages"]["de"]["bm25"]
    assert str(indexes[0].parent) not in json.dumps(listed)


@pytest.mark.parametrize(
    ("body", "status", "param", "fault"),
    [
        ({}, 400, "query", "Field required"),
        ({"query": ""}, 400, "query", "at least 1 character"),
        ({"query": " \n"}, 400, "query", "The query is empty"),
        ({"query": "x" * 10_001}, 400, "query", "at most 10000 characters"),
        ({"query": "cat", "top_k": 0}, 400, "top_k", "greater than or equal to 1"),
        ({"query": "cat", "top_k": 10**9}, 400, "top_k", "less than or equal to 1000"),
        ({"query": "cat", "top_k": "7"}, 400, "top_k", "valid integer"),
        ({"query": "cat", "mode": "sparse"}, 400, "mode", "'hybrid', 'dense' or 'bm25'"),
        ({"query": "cat", "lang": "xx"}, 400, "lang", "Unknown language 'xx'"),
        ({"query": "cat", "languages": ["de", "xx"]}, 400, "languages", "Unknown language 'xx'"),
        ({"query": "cat", "languages": []}, 400, "languages", "at least 1 item"),
        ({"query": "cat", "languages": "de"}, 400, "languages", "valid list"),
        ({"query": "cat", "filter": {}}, 400, "filter", "There is no field 'filter'"),
        (
            {"query": "cat", "index": "nope"},
            404,
            "index",
            "There is no index 'nope'. Choose from: bm25, dense",
        ),
        ({"query": "cat", "index": None}, 400, "index", "Name the index to search. Choose from: bm25, dense"),
    ],
)
def test_requests_that_cannot_be_answered(server, body, status, param, fault):
    got, error = server.error("/v1/search", **{"index": "small", **body})
    assert (got, error["param"]) == (status, param)
    assert fault in error["message"]


def test_half_a_character_is_no_json(server):
    reply = server.http.post(
        "/v1/search",
        content=b'{"query": "half \\ud83d", "index": "small"}',
        headers={"content-type": "application/json"},
    )
    assert reply.status_code == 400
    assert "error" in reply.json()


def test_the_only_index_needs_no_name(small_index):
    with live(Settings(indexes=(small_index,))) as server:
        assert server.json("/v1/search", query="the cat")["index"] == "small"


def test_a_server_without_an_index_says_so(model):
    with live(Settings(models=(str(model),))) as server:
        status, error = server.error("/v1/search", query="cat")
        assert (status, error["code"]) == (404, "index_not_found")
        assert server.http.get("/v1/indexes").json() == {"object": "list", "data": []}


def test_nothing_is_searched_before_the_indexes_are_open(small_index, monkeypatch):
    from mretrieve.serve.indexes import IndexRegistry

    opening = threading.Event()
    open_all = IndexRegistry.open
    monkeypatch.setattr(IndexRegistry, "open", lambda self: (opening.wait(30), open_all(self)))
    with live(Settings(indexes=(small_index,)), wait=False) as server:
        try:
            status, error = server.error("/v1/search", query="cat")
        finally:
            opening.set()
        assert (status, error["code"]) == (503, "not_ready")


def test_a_query_goes_through_the_batches_of_the_server(server):
    def batches():
        return server.state.metrics.registry.get_sample_value(
            "mretrieve_batch_texts_count", {"lane": "short"}
        )

    before = batches() or 0
    server.json("/v1/search", query="the cat", index="small", mode="dense")
    assert batches() == before + 1
    server.json("/v1/search", query="the cat", index="small", mode="bm25")
    assert batches() == before + 1


def test_searches_are_measured(server):
    server.json("/v1/search", query="the cat", index="small")
    figures = server.http.get("/metrics").text
    for part in ("total", "embed", "dense", "bm25"):
        assert f'mretrieve_search_seconds_count{{index="small",part="{part}"}}' in figures


def test_many_clients_search_at_once(server):
    jobs = [(query, mode) for query in QUERIES for mode in ("hybrid", "dense", "bm25")]

    def ask(job):
        query, mode = job
        with httpx.Client(base_url=server.url, timeout=60) as http:
            body = {"query": query, "mode": mode, "index": "small"}
            return [hit["doc_id"] for hit in http.post("/v1/search", json=body).json()["hits"]]

    alone = {job: ask(job) for job in jobs}
    with ThreadPoolExecutor(8) as pool:
        for job, found in zip(jobs * 6, pool.map(ask, jobs * 6), strict=True):
            assert found == alone[job]


def test_too_many_waiting_searches_are_turned_away(server, monkeypatch):
    monkeypatch.setattr("mretrieve.serve.indexes.MAX_WAITING", 0)
    reply = server.post("/v1/search", query="cat", index="small", mode="bm25")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "too many searches are waiting" in reply.json()["error"]["message"]


def test_keys_open_search_alone(small_index, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("search-only-0123456789 only=search\n")
    with live(Settings(indexes=(small_index,), api_key_file=keys)) as server:
        assert server.error("/v1/search", query="cat")[0] == 401
        server.http.headers["authorization"] = "Bearer search-only-0123456789"
        assert server.json("/v1/search", query="cat")["hits"]
        assert server.http.get("/v1/indexes").status_code == 403
