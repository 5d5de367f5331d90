"""Real servers on free ports, in threads of this process."""

import asyncio
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from mretrieve.serve.settings import Settings

READY_SECONDS = 60


class Running:
    """A server at work."""

    def __init__(self, settings):
        import uvicorn

        from mretrieve.cli_serve import listen
        from mretrieve.serve.app import create_app

        self.failures = []
        self.app = create_app(settings, on_loaded=self.failures.append)
        self.state = self.app.state.server
        self._listener = listen(settings.host, 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.server = uvicorn.Server(
            uvicorn.Config(
                self.app,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=settings.grace_seconds,
            )
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        asyncio.run(self.server.serve(sockets=[self._listener]))

    def wait(self):
        """Until all is loaded."""
        end = time.monotonic() + READY_SECONDS
        while not self.failures:
            assert time.monotonic() < end, "the server does not become ready"
            time.sleep(0.01)

    def client(self, **options):
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def embed(self, texts, model="tiny", **fields):
        """The reply to a request for embeddings."""
        with self.client() as client:
            return client.post("/v1/embeddings", json={"model": model, "input": texts, **fields})

    def stop(self):
        self.server.should_exit = True
        self._thread.join(60)
        self._listener.close()
        assert not self._thread.is_alive()


@contextmanager
def running(settings=None, **options):
    """Serve while the block runs."""
    one = Running(settings or Settings(**options))
    try:
        one.wait()
        yield one
    finally:
        one.stop()


@pytest.fixture
def serve():
    """A context manager that serves: keywords as `Settings`."""
    return running


@pytest.fixture(scope="session")
def tiny(model):
    """A server of the small model, called `tiny`; for all tests of a session."""
    with running(models=(f"tiny={model}",)) as one:
        yield one


@pytest.fixture(scope="session")
def e5(e5_folder):
    """A server of the embedded model; for all tests of a session."""
    with running() as one:
        yield one


def error_of(reply, status):
    """The error of a reply, which has to have all of OpenAI's envelope."""
    assert reply.status_code == status, reply.text[:300]
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()) == {"error"}
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and error["type"]
    return error
