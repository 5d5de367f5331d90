"""A running server with an HTTP client for tests that mostly post JSON to it."""

import time
from contextlib import contextmanager

from tests.serve.conftest import Running


class Live:
    """A server that runs: `http` calls it, `state` is what its routes share."""

    def __init__(self, running, http):
        self.url, self.state, self.http = running.url, running.state, http

    def post(self, path, **body):
        """The reply to a POST of JSON."""
        return self.http.post(path, json=body)

    def json(self, path, **body):
        """The content of a reply that has to be a success."""
        reply = self.post(path, **body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def error(self, path, **body):
        """Status and error of a reply that has to be a failure, in the envelope."""
        reply = self.post(path, **body)
        assert reply.status_code >= 400, reply.text
        assert reply.json().keys() == {"error"}
        return reply.status_code, reply.json()["error"]


@contextmanager
def live(settings, *, wait=True):
    """Run a server until the end of the block; it is ready at the start unless `wait` is false."""
    running = Running(settings)
    try:
        if wait:
            running.wait()
            assert running.failures == [None], running.failures
        with running.client() as http:
            yield Live(running, http)
    finally:
        running.stop()


def wait_until(condition, *, seconds=60):
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
