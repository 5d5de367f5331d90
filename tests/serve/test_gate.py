"""What every request passes: keys, sizes, rates, errors that nobody foresaw, and what is logged."""

import logging
import socket

import pytest

from mretrieve.serve.gate import part_of
from tests.serve.conftest import error_of, running

KEY, NARROW, SLOW = "sk-0123456789abcdef", "sk-only-models-1234", "sk-slow-567890123456"
ROUTES = [
    "/v1/embeddings",
    "/v1/models",
    "/v1/search",
    "/v1/rerank",
    "/rerank",
    "/metrics",
    "/v1/nothing",
    "/x",
]


@pytest.fixture(scope="module")
def guarded(model, tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{KEY}\n{NARROW} only=models\n{SLOW} rpm=2\n")
    with running(models=(f"tiny={model}",), api_key_file=keys, max_body_bytes=1000) as one:
        yield one


def bearer(key):
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1/embeddings", "embeddings"),
        ("/v1/models/a/b", "models"),
        ("/v2/rerank", "rerank"),
        ("/rerank", "rerank"),
        ("//v1//search/", "search"),
        ("/v1", ""),
        ("/", ""),
    ],
)
def test_the_part_that_a_path_belongs_to(path, part):
    assert part_of(path) == part


@pytest.mark.parametrize("path", ROUTES)
def test_nothing_without_a_key(guarded, path):
    with guarded.client() as client:
        for headers in ({}, bearer("sk-wrong-wrong-wrong"), {"authorization": "Basic eDp5"}):
            for call in (client.get, client.post):
                reply = call(path, headers=headers)
                assert error_of(reply, 401)["code"] == "invalid_api_key"
                assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/health", "/ready", "/docs", "/openapi.json"])
def test_what_is_open_to_all(guarded, path):
    with guarded.client() as client:
        assert client.get(path).status_code == 200


def test_a_key_opens(guarded):
    with guarded.client(headers=bearer(KEY)) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get("/metrics").status_code == 200
        reply = client.post("/v1/embeddings", json={"model": "tiny", "input": "cat"})
        assert reply.status_code == 200


def test_a_narrow_key_opens_its_part_only(guarded):
    with guarded.client(headers=bearer(NARROW)) as client:
        assert client.get("/v1/models/tiny").status_code == 200
        error_of(client.get("/metrics"), 403)
        error_of(client.post("/v1/embeddings", json={"model": "tiny", "input": "cat"}), 403)


def test_a_slow_key(guarded):
    with guarded.client(headers=bearer(SLOW)) as client:
        assert [client.get("/v1/models").status_code for _ in range(2)] == [200, 200]
        reply = client.get("/v1/models")
        assert error_of(reply, 429)["type"] == "rate_limit_error"
        assert 1 <= int(reply.headers["retry-after"]) <= 30


def test_a_body_that_is_too_large(guarded):
    with guarded.client(headers=bearer(KEY)) as client:
        body = b'{"model": "tiny", "input": "' + b"a" * 1000 + b'"}'
        headers = {"content-type": "application/json"}
        error_of(client.post("/v1/embeddings", content=body, headers=headers), 413)
        parts = iter([body[:600], body[600:]])  # sent in parts, without its length
        error_of(client.post("/v1/embeddings", content=parts, headers=headers), 413)
        assert client.get("/v1/models").status_code == 200


def test_a_length_that_is_a_lie_is_not_waited_for(guarded):
    host, port = guarded.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        connection.sendall(f"{head}content-length: 99999999\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/embeddings", 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/v1/search", 405),
        ("POST", "/health", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1", 404),
        ("GET", "/v1/models/none", 404),
    ],
)
def test_addresses_and_methods_that_there_are_not(tiny, method, path, status):
    with tiny.client() as client:
        reply = client.request(method, path)
        error_of(reply, status)
        if status == 405:
            assert reply.headers["allow"]


def test_an_error_that_nobody_foresaw(model, caplog, capfd):
    secret = "/home/someone/weights.bin"
    with running(models=(f"tiny={model}",)) as one:

        def broken(ids, **_):
            raise RuntimeError(f"{secret} broke")

        one.state.models.default.embed = broken
        with caplog.at_level(logging.INFO):
            reply = one.embed("cat")
            error = error_of(reply, 500)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    number = reply.headers["x-request-id"]
    assert number in error["message"]
    assert f"Request {number} failed: RuntimeError" in caplog.text
    seen = reply.text + caplog.text + "".join(capfd.readouterr())
    assert secret not in seen and "Traceback" not in seen and ".py" not in reply.text


def test_keys_are_in_no_log(guarded, caplog):
    with caplog.at_level(logging.DEBUG), guarded.client(headers=bearer(KEY)) as client:
        client.get("/v1/models")
        client.get("/v1/models", headers=bearer("sk-wrong-but-secret-too"))
        client.post("/v1/embeddings", content=b"{", headers={"content-type": "application/json"})
    text = " ".join(record.getMessage() for record in caplog.records if record.name.startswith("mretrieve"))
    assert "/v1/models" in text
    assert KEY not in text and "secret" not in text
