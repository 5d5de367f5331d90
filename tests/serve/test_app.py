"""The whole application: start, end, browsers from elsewhere, and what there is to read about it."""

import threading
import time

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.serve.app import create_app
from mretrieve.serve.settings import Settings
from tests.serve.conftest import Running, error_of, running
from tests.serve.live import wait_until


def test_never_ready_with_a_model_that_is_damaged(checkpoint):
    folder = checkpoint()
    (folder / "model.safetensors").write_bytes(b"damaged")
    one = Running(Settings(models=(str(folder),)))
    try:
        one.wait()
        assert isinstance(one.failures[0], InputError)
        with one.client() as client:
            assert client.get("/health").status_code == 200
            error_of(client.get("/ready"), 503)
    finally:
        one.stop()


def test_it_finishes_what_it_took(model):
    one = Running(Settings(models=(f"tiny={model}",)))
    one.wait()
    served = one.state.models.default
    compute, started = served.embed, threading.Event()

    def slowly(ids, **_):
        started.set()
        time.sleep(0.5)
        return compute(ids)

    served.embed = slowly
    replies = []
    callers = [
        threading.Thread(target=lambda: replies.append(one.embed(["the cat sat on the mat"] * 200)))
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    assert started.wait(60)
    wait_until(lambda: one.state.metrics.in_flight._value.get() == 3)
    one.stop()
    for caller in callers:
        caller.join(60)
    assert [reply.status_code for reply in replies] == [200] * 3
    assert all(len(reply.json()["data"]) == 200 for reply in replies)


def test_freed_memory_is_returned_again_and_again(model, monkeypatch):
    returned = threading.Semaphore(0)
    monkeypatch.setattr("mretrieve.serve.app.TIDY_SECONDS", 0.01)
    monkeypatch.setattr("mretrieve.serve.app.return_freed_pages", returned.release)
    with running(Settings(models=(f"tiny={model}",))):
        assert all(returned.acquire(timeout=10) for _ in range(3))


def test_what_takes_too_long_at_the_end_is_told_so(model):
    one = Running(Settings(models=(f"tiny={model}",), grace_seconds=1))
    one.wait()
    go_on, started = threading.Event(), threading.Event()

    def never(ids, **_):
        started.set()
        go_on.wait(60)
        return np.zeros((len(ids), 32), np.float32)

    one.state.models.default.embed = never
    replies = []
    caller = threading.Thread(target=lambda: replies.append(one.embed("cat")))
    caller.start()
    assert started.wait(60)
    one.server.should_exit = True
    caller.join(60)
    go_on.set()
    one.stop()
    assert error_of(replies[0], 503)["message"] == "The server is stopping."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": ("no-such-model",)}, "Unknown model"),
        ({"host": "0.0.0.0"}, "can be reached from other machines"),
        ({"api_key_file": "/no/such/file"}, "cannot be read"),
        ({"device": "tpu"}, "Unknown device"),
        ({"dtype": "int3"}, "Unknown number type"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(settings, message):
    from pathlib import Path

    if "api_key_file" in settings:
        settings = {"api_key_file": Path(settings["api_key_file"])}
    with pytest.raises(InputError, match=message):
        create_app(Settings(**settings))


def test_no_other_origin_by_default(tiny):
    with tiny.client(headers={"origin": "https://elsewhere.example"}) as client:
        assert "access-control-allow-origin" not in client.get("/v1/models").headers
        assert client.options("/v1/models").status_code == 405


def test_an_origin_that_may_call(model, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-0123456789abcdef\n")
    origin = "https://my.example"
    with (
        running(models=(f"tiny={model}",), cors_origins=(origin,), api_key_file=keys) as one,
        one.client(headers={"origin": origin}) as client,
    ):
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        reply = client.options("/v1/embeddings", headers=asked)
        assert reply.headers["access-control-allow-origin"] == origin
        assert "POST" in reply.headers["access-control-allow-methods"]
        refused = client.get("/v1/models")
        error_of(refused, 401)
        assert refused.headers["access-control-allow-origin"] == origin
        other = client.get("/health", headers={"origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in other.headers
