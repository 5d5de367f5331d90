"""`GET /health` and `GET /ready`."""

import threading

from mretrieve.serve.settings import Settings
from tests.serve.conftest import Running, error_of


def test_ready_only_when_all_is_loaded(model, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr("mretrieve.serve.models.ModelRegistry.load", lambda self: go_on.wait(60))
    one = Running(Settings(models=(f"tiny={model}",)))
    try:
        with one.client() as client:
            assert client.get("/health").json() == {"status": "ok"}
            reply = client.get("/ready")
            assert error_of(reply, 503)["code"] == "not_ready"
            assert reply.headers["retry-after"] == "1"
            go_on.set()
            one.wait()
            assert client.get("/ready").json() == {"status": "ready"}
            assert client.post("/v1/embeddings", json={"model": "tiny", "input": "a"}).status_code == 200
    finally:
        go_on.set()
        one.stop()
    assert one.state.phase == "stopping"
