"""The named endpoints, through Gradio's own client."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(served):
    gradio_client = pytest.importorskip("gradio_client", reason="gradio_client is not installed")
    client = gradio_client.Client(served.url, verbose=False)
    yield client
    client.close()


def test_names(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {
        f"/{name}" for name in ("indexes", "search", "similar", "explain", "compare", "info", "routing")
    }


def test_indexes(client):
    assert client.predict(api_name="/indexes") == ["demo", "sparse"]
    said = client.predict(api_name="/info")
    assert said["index"] == "demo" and said["documents"] == 300


def test_search_explain_and_similar(client):
    said = client.predict("Wo fanden die Luftangriffe auf Lehrkräfte statt?", top_k=3, api_name="/search")
    assert said["mode"] == "hybrid" and said["lang"] == "de" and len(said["hits"]) == 3
    best = said["hits"][0]
    assert best["lang"] == "de" and best["rank"] == 1
    assert sum(best["parts"].values()) == pytest.approx(best["score"], abs=1e-4)
    why = client.predict("Lehrkräfte", best["row"], mode="bm25", api_name="/explain")
    assert sum(term["score"] for term in why["terms"]) == pytest.approx(why["hit"]["bm25_score"], rel=1e-4)
    like = client.predict(best["row"], top_k=2, languages=["en"], api_name="/similar")
    assert [hit["lang"] for hit in like["hits"]] == ["en", "en"]


def test_compare(client):
    said = client.predict("Tesla", right="sparse", right_mode="bm25", api_name="/compare")
    assert said["left"]["index"] == "demo" and said["right"]["mode"] == "bm25"


def test_routing(client):
    said = client.predict("the cab", index="sparse", api_name="/routing")
    assert len(said["probabilities"]) == len(said["tokens"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query": " "}, "query is empty"),
        ({"query": "a", "index": "other"}, "no index 'other'"),
        ({"query": "a", "mode": "magic"}, "Unknown mode"),
        ({"query": "a", "top_k": 0}, "from 1 to 100"),
        ({"query": "a", "languages": ["klingonish"]}, "Unknown language"),
    ],
)
def test_errors_are_told(client, arguments, message):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=message):
        client.predict(**arguments, api_name="/search")
