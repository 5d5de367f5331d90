"""The benchmark of the server: its loads make the requests that they say, and the soak sees what happens."""

import sys
import time

import pytest

pytest.importorskip("uvicorn")

from serve import lanes, soak, throughput
from servers import Kind, load, started

SERVE = "from mretrieve import cli, cli_serve\ncli.app = cli_serve.app\ncli.main()"
QUERIES = [f"where is number {n}" for n in range(40)]
PARAGRAPHS = [f"the number {n} is in the house of the river and the cat sat on it" for n in range(40)]


@pytest.fixture(scope="module")
def kind(model):
    command = (sys.executable, "-c", SERVE, "--port", "{port}", "--model", f"tiny={model}")
    return Kind("ours", command, ready="/ready", query_model="tiny:query", document_model="tiny:document")


def wait_for_the_second_gear(server):
    """Until the memory, which grows while torch is loaded, has not changed for two seconds."""
    seen = [server.rss_mb]
    while len(seen) < 5 or max(seen[-5:]) - min(seen[-5:]) > 5:
        time.sleep(0.5)
        seen.append(server.rss_mb)


@pytest.mark.slow
def test_a_short_soak(kind):
    with started(kind) as server:
        assert server.start_seconds > 0
        load(server, [lambda caller: caller.embed(PARAGRAPHS, query=False)] * 30, 4)
        wait_for_the_second_gear(server)
        reranked = []

        def rerank(caller):
            reranked.append(caller.post("/v1/rerank", {"query": "cat", "documents": PARAGRAPHS[:2]}))

        found = soak(server, 6, QUERIES, PARAGRAPHS, others=[rerank], clients=16)
        assert (found["failed"], found["failures"]) == (0, {})
        assert reranked and all(len(reply["results"]) == 2 for reply in reranked)
        assert found["answered"] > 16 and found["vanished"] > 0
        assert found["growth"] < 0.5  # 0.05 is asked of ten minutes
        assert server.process.poll() is None
        assert all(
            seconds > 0 for seconds in load(server, [lambda caller: caller.embed(["a"], query=True)] * 3, 2)
        )
        assert server.failed == 0
        load(server, [lambda caller: caller.post("/v1/nothing", {})], 1)
        assert server.failed == 1 and server.failures == {"404": 1}


@pytest.mark.slow
def test_servers_take_turns(kind, capsys, monkeypatch):
    monkeypatch.setattr("serve.QUERIES", 20)
    monkeypatch.setattr("serve.time.sleep", lambda seconds: None)
    found = throughput([kind], QUERIES, PARAGRAPHS, rounds=1)
    assert set(found["ours"]) == {
        "queries, 1 clients",
        "queries, 8 clients",
        "queries, 32 clients",
        "paragraphs, batches of 16",
    }
    assert all(rate > 0 for rate in found["ours"].values())
    assert "| failed requests | 0 |" in capsys.readouterr().out


@pytest.mark.slow
def test_queries_beside_documents(kind, capsys, monkeypatch):
    monkeypatch.setattr("serve.ours", lambda: kind)
    monkeypatch.setattr("serve.SINGLE_QUERIES", 20)
    found = lanes(QUERIES, PARAGRAPHS)
    assert found["failed"] == 0
    assert found["ratio of p95"] == pytest.approx(found["busy p95"] / found["idle p95"])
