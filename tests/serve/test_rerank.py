import asyncio
import threading

import cohere
import httpx
import numpy as np
import pytest

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.rank.rerank import Reranker
from mretrieve.serve.errors import ApiError
from mretrieve.serve.rerank import AT_ONCE, CrossEncoderService, RerankReply
from mretrieve.serve.settings import Settings
from tests.rank.cross_encoders import make_cross_encoder
from tests.serve.conftest import Running
from tests.serve.live import live, wait_until

QUERY = "the cat in the sun"
DOCUMENTS = ["a dog in the garden", "the cat sat", "rain " * 60, "the cat sat"]
PATHS = ["/v1/rerank", "/v2/rerank", "/rerank"]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    return make_cross_encoder(tmp_path_factory.mktemp("cross") / "judge")


@pytest.fixture(scope="module")
def by_cross_encoder(cross_encoder, model):
    with live(Settings(models=(f"tiny={model}",), reranker=str(cross_encoder))) as server:
        yield server


@pytest.fixture(scope="module")
def by_embedding(model):
    with live(Settings(models=(f"tiny={model}",))) as server:
        yield server


def cosines(model, query, documents):
    encoder = Encoder(str(model))
    return encoder.encode_documents(documents) @ encoder.encode_queries([query])[0]


def order_of(scores):
    return np.argsort(-np.asarray(scores), kind="stable").tolist()


@pytest.mark.parametrize("path", PATHS)
def test_a_cross_encoder_scores_where_there_is_one(by_cross_encoder, cross_encoder, path):
    expected = Reranker(str(cross_encoder)).score(QUERY, DOCUMENTS)
    reply = by_cross_encoder.json(path, query=QUERY, documents=DOCUMENTS)
    RerankReply.model_validate(reply, strict=True)
    assert (reply["method"], reply["model"]) == ("cross-encoder", "judge")
    assert [result["index"] for result in reply["results"]] == order_of(expected)
    scores = [result["relevance_score"] for result in reply["results"]]
    assert scores == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-5)
    assert "warnings" not in reply["meta"]
    assert reply["meta"]["api_version"]["version"] == ("2" if path == "/v2/rerank" else "1")
    n_tokens = Reranker(str(cross_encoder)).count_tokens(QUERY, DOCUMENTS)
    assert reply["usage"]["total_tokens"] == reply["meta"]["tokens"]["input_tokens"] == n_tokens


@pytest.mark.parametrize("path", PATHS)
def test_else_the_embedding_model_scores_and_the_reply_says_so(by_embedding, model, path):
    expected = cosines(model, QUERY, DOCUMENTS)
    reply = by_embedding.json(path, query=QUERY, documents=DOCUMENTS, model="tiny")
    RerankReply.model_validate(reply, strict=True)
    assert (reply["method"], reply["model"]) == ("embedding", "tiny")
    assert reply["meta"]["warnings"] == [
        "Scores are cosines of the embedding model tiny: no cross-encoder was used."
    ]
    assert [result["index"] for result in reply["results"]] == order_of(expected)
    scores = [result["relevance_score"] for result in reply["results"]]
    assert scores == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-5)
    assert reply["usage"]["total_tokens"] > len(DOCUMENTS)


def test_the_caller_chooses_between_the_two(by_cross_encoder):
    for name, method in (("tiny", "embedding"), ("judge", "cross-encoder"), (None, "cross-encoder")):
        reply = by_cross_encoder.json("/v1/rerank", query=QUERY, documents=DOCUMENTS, model=name)
        assert reply["method"] == method
    status, error = by_cross_encoder.error("/v1/rerank", query=QUERY, documents=["a"], model="rerank-v3.5")
    assert (status, error["param"], error["code"]) == (404, "model", "model_not_found")
    assert error["message"].endswith("Choose from: judge, tiny.")


def test_documents_may_be_objects(by_cross_encoder):
    plain = by_cross_encoder.json("/v1/rerank", query=QUERY, documents=DOCUMENTS)
    objects = [{"text": text, "id": place, "more": None} for place, text in enumerate(DOCUMENTS)]
    reply = by_cross_encoder.json("/v1/rerank", query=QUERY, documents=objects, return_documents=True)
    assert all(result.pop("document") == objects[result["index"]] for result in reply["results"])
    assert reply["results"] == plain["results"]
    mixed = by_cross_encoder.json(
        "/v1/rerank", query=QUERY, documents=[objects[0], *DOCUMENTS[1:]], return_documents=True
    )
    texts = {result["index"]: result["document"]["text"] for result in mixed["results"]}
    assert [texts[place] for place in range(4)] == DOCUMENTS


def test_fields_are_read_in_the_order_given(by_cross_encoder):
    joined = by_cross_encoder.json("/v1/rerank", query=QUERY, documents=["the cat\na dog", "x\ny"])
    objects = [{"body": "a dog", "title": "the cat"}, {"body": "y", "title": "x", "text": "z"}]
    reply = by_cross_encoder.json("/v1/rerank", query=QUERY, documents=objects, rank_fields=["title", "body"])
    assert reply["results"] == joined["results"]


@pytest.mark.parametrize("name", ["judge", "tiny"])
def test_only_so_many_tokens_are_read_of_each_document(by_cross_encoder, name):
    # Each letter is a token, and so is the space before a word.
    def ask(documents, **options):
        return by_cross_encoder.json("/v2/rerank", query=QUERY, documents=documents, model=name, **options)[
            "results"
        ]

    cut = ask(["a bc de", "x"], max_tokens_per_doc=2)
    assert cut == ask(["a ", "x"]) or cut == ask(["a", "x"])
    assert ask(["a bc de", "x"], max_tokens_per_doc=4096) == ask(["a bc de", "x"])


def test_so_many_results(by_embedding):
    body = {"query": QUERY, "documents": DOCUMENTS}
    everything = by_embedding.json("/rerank", **body)["results"]
    assert by_embedding.json("/rerank", **body, top_n=2)["results"] == everything[:2]
    assert by_embedding.json("/rerank", **body, top_n=100)["results"] == everything
    assert all(result.keys() == {"index", "relevance_score"} for result in everything)


@pytest.mark.parametrize(
    ("body", "param", "fault"),
    [
        ({"documents": ["a"]}, "query", "Field required"),
        ({"query": " ", "documents": ["a"]}, "query", "The query is empty"),
        ({"query": "a"}, "documents", "Field required"),
        ({"query": "a", "documents": []}, "documents", "at least 1 item"),
        ({"query": "a", "documents": "abc"}, "documents", "valid list"),
        ({"query": "a", "documents": ["b", ""]}, "documents.1", "at least 1 character"),
        ({"query": "a", "documents": ["b", 7]}, "documents.1", "a string or an object"),
        ({"query": "a", "documents": [{"title": "b"}]}, "documents.0", "has no text in: text"),
        ({"query": "a", "documents": [{"text": 7}]}, "documents.0", "has no text in: text"),
        ({"query": "a", "documents": ["b"] * 2049}, "documents", "may have 2,048"),
        ({"query": "a", "documents": ["b"], "top_n": 0}, "top_n", "greater than or equal to 1"),
        ({"query": "a", "documents": ["b"], "max_tokens_per_doc": 0}, "max_tokens_per_doc", "equal to 1"),
        ({"query": "a", "documents": ["b"], "texts": []}, "texts", "There is no field 'texts'"),
    ],
)
def test_requests_that_cannot_be_answered(by_cross_encoder, body, param, fault):
    status, error = by_cross_encoder.error("/v1/rerank", **body)
    assert (status, error["param"]) == (400, param)
    assert fault in error["message"]


@pytest.mark.parametrize("name", ["judge", "tiny"])
def test_too_much_text_is_refused(cross_encoder, model, name):
    settings = Settings(models=(f"tiny={model}",), reranker=str(cross_encoder), max_tokens=100)
    with live(settings) as server:
        body = {"query": QUERY, "documents": ["x" * 50] * 4, "model": name}
        status, error = server.error("/v1/rerank", **body)
        assert (status, error["param"], error["code"]) == (400, "documents", "max_tokens_per_request")


def test_coheres_client(by_cross_encoder, by_embedding):
    for server, name, warned in ((by_cross_encoder, "judge", False), (by_embedding, "tiny", True)):
        expected = server.json("/v1/rerank", query=QUERY, documents=DOCUMENTS, model=name)["results"]
        arguments = {"model": name, "query": QUERY, "documents": DOCUMENTS}
        with httpx.Client() as http:
            for client in (
                cohere.ClientV2("any", base_url=server.url, httpx_client=http),
                cohere.Client("any", base_url=server.url, httpx_client=http),
            ):
                reply = client.rerank(**arguments)
                assert [(one.index, one.relevance_score) for one in reply.results] == [
                    (one["index"], one["relevance_score"]) for one in expected
                ]
                assert bool(reply.meta.warnings) == warned
                assert reply.meta.tokens.input_tokens > 0
                assert len(client.rerank(**arguments, top_n=1).results) == 1
            old = client.rerank(
                **arguments | {"documents": [{"text": text} for text in DOCUMENTS]}, return_documents=True
            )
            assert [one.document.text for one in old.results] == [DOCUMENTS[one.index] for one in old.results]
            with pytest.raises(cohere.NotFoundError):
                client.rerank(**arguments | {"model": "nope"})
            with pytest.raises(cohere.BadRequestError):
                client.rerank(**arguments | {"documents": []})


def test_coheres_client_shows_its_key(model, tmp_path):
    (tmp_path / "keys").write_text("secret-0123456789abcdef\n")
    arguments = {"model": "tiny", "query": QUERY, "documents": DOCUMENTS}
    with live(Settings(models=(f"tiny={model}",), api_key_file=tmp_path / "keys")) as server:
        with httpx.Client() as http:
            client = cohere.ClientV2("secret-0123456789abcdef", base_url=server.url, httpx_client=http)
            assert len(client.rerank(**arguments).results) == 4
            client = cohere.ClientV2("another-0123456789abcdef", base_url=server.url, httpx_client=http)
            with pytest.raises(cohere.UnauthorizedError):
                client.rerank(**arguments)


def test_jinas_request(by_cross_encoder):
    """As Jina's documentation writes it; its reply has `model`, `usage` and `results`."""
    body = {"model": "judge", "query": QUERY, "documents": DOCUMENTS, "top_n": 3, "return_documents": True}
    reply = by_cross_encoder.json("/v1/rerank", **body)
    assert reply["model"] == "judge" and reply["object"] == "list"
    assert reply["usage"]["total_tokens"] > 0
    for result in reply["results"]:
        assert result["document"] == {"text": DOCUMENTS[result["index"]]}


@pytest.fixture
def service(cross_encoder):
    made = CrossEncoderService(str(cross_encoder), device="cpu", dtype="auto", max_tokens=10**6)
    yield made
    made.close()


def test_documents_are_scored_in_parts(service, cross_encoder):
    documents = [f"the cat {'x' * (place % 7)}" for place in range(2 * AT_ONCE + 3)]
    scores, _ = asyncio.run(service.score(QUERY, documents, None))
    expected = Reranker(str(cross_encoder)).score(QUERY, documents)
    assert scores == pytest.approx(expected, abs=1e-5)


def test_what_nobody_waits_for_is_not_computed(service, monkeypatch):
    calls, may_go_on = [], threading.Event()

    def score(query, documents):
        calls.append(len(documents))
        may_go_on.wait(30)
        return np.zeros(len(documents), np.float32)

    monkeypatch.setattr(service._reranker, "score", score)

    async def ask_and_go():
        task = asyncio.ensure_future(service.score(QUERY, ["a"] * 10 * AT_ONCE, None))
        while not calls:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_go_on.set()
        return await service.score(QUERY, ["a", "b"], None)

    asyncio.run(ask_and_go())
    assert calls == [AT_ONCE, 2]


def test_requests_take_turns(service, monkeypatch):
    calls = []
    monkeypatch.setattr(
        service._reranker,
        "score",
        lambda query, documents: calls.append(query) or np.zeros(len(documents), np.float32),
    )

    async def ask_both():
        await asyncio.gather(
            service.score("long", ["a"] * 5 * AT_ONCE, None), service.score("short", ["a"], None)
        )

    asyncio.run(ask_both())
    assert calls.count("long") == 5
    assert calls.index("short") <= 1


def test_too_many_waiting_documents_are_turned_away(service, monkeypatch):
    monkeypatch.setattr("mretrieve.serve.rerank.MAX_WAITING_DOCUMENTS", 3)

    async def ask(*sizes):
        work = [service.score(QUERY, ["a"] * size, None) for size in sizes]
        return await asyncio.gather(*work, return_exceptions=True)

    first, second, third = asyncio.run(ask(2, 2, 1))
    assert isinstance(second, ApiError) and second.status == 503 and second.retry_after
    assert len(first[0]) == 2 and len(third[0]) == 1
    [(scores, _)] = asyncio.run(ask(5))  # a single request may be larger where nothing waits
    assert len(scores) == 5


def test_an_embedding_model_is_no_cross_encoder(model, cross_encoder):
    with pytest.raises(InputError, match="is an embedding model, not a cross-encoder"):
        CrossEncoderService(str(model), device="cpu", dtype="auto", max_tokens=100)
    with pytest.raises(InputError, match="Unknown model 'nope'"):
        CrossEncoderService("nope", device="cpu", dtype="auto", max_tokens=100)
    CrossEncoderService(str(cross_encoder), device="cpu", dtype="int8", max_tokens=100).close()


def test_the_server_is_ready_when_the_cross_encoder_is(cross_encoder, model, monkeypatch):
    may_load = threading.Event()
    load = CrossEncoderService.load
    monkeypatch.setattr(CrossEncoderService, "load", lambda self: (may_load.wait(30), load(self)))
    settings = Settings(models=(f"tiny={model}",), reranker=str(cross_encoder))
    with live(settings, wait=False) as server:
        try:
            wait_until(lambda: server.state.models.is_ready)
            assert server.http.get("/ready").status_code == 503
        finally:
            may_load.set()
        wait_until(lambda: server.http.get("/ready").status_code == 200)


def test_a_damaged_cross_encoder_is_told_when_the_server_starts(tmp_path, model):
    folder = make_cross_encoder(tmp_path / "judge")
    (folder / "model.safetensors").write_bytes(b"nothing")
    running = Running(Settings(models=(f"tiny={model}",), reranker=str(folder)))
    try:
        running.wait()
        [failure] = running.failures
        assert isinstance(failure, InputError) and "cannot be loaded" in str(failure)
    finally:
        running.stop()
