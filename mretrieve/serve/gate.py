"""What every request passes: key, rate and size are checked, time is measured, errors are caught.

Written for ASGI itself, which costs a request some microseconds.
"""

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mretrieve.serve.auth import Gatekeeper
from mretrieve.serve.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mretrieve.serve.metrics import Metrics

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/", "/health", "/ready", "/docs", "/openapi.json"})
"""What needs no key: it tells nothing about the models' or the indexes' contents."""

GONE = 499
"""Status that is counted for callers that went away (nginx's number; nobody reads it)."""

_VERSION = re.compile(r"v\d+")
_numbers = random.Random()  # they only tell requests apart, and asking the system takes longer


class ClientGoneError(Exception):
    """The caller has closed the connection: nobody waits for the answer."""


class Gate:
    """ASGI middleware around the application.

    Args:
        app: what requests go on to.
        gatekeeper: knows the keys.
        metrics: where figures go.
        max_body_bytes: size of a request's body.
    """

    def __init__(
        self, app: "ASGIApp", *, gatekeeper: Gatekeeper, metrics: "Metrics", max_body_bytes: int
    ) -> None:
        self._app, self._gatekeeper, self._metrics = app, gatekeeper, metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, request_id=f"{_numbers.getrandbits(64):016x}")
        with self._measured(scope, answer):
            try:
                self._admit(scope)
                body = await self._read_body(scope, receive)
                await self._app(scope, _replay(body, receive), answer.send)
            except ApiError as error:
                await answer.fail(error)
            except ClientGoneError:
                answer.status = GONE
            except asyncio.CancelledError:  # the server stops, and its time to finish is over
                await answer.fail(ApiError(503, "The server is stopping.", retry_after=5))
            except Exception as error:
                logger.error("Request %s failed: %s", answer.request_id, type(error).__name__)
                logger.debug("Where this comes from:", exc_info=True)
                await answer.fail(ApiError(500, f"Something went wrong here (request {answer.request_id})."))

    @contextmanager
    def _measured(self, scope: "Scope", answer: "_Answer") -> Iterator[None]:
        start = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
            self._metrics.requests.labels(route, method, str(answer.status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            logger.debug("%s %s %s %d %.4f s", answer.request_id, method, route, answer.status, seconds)

    def _admit(self, scope: "Scope") -> None:
        path = scope["path"]
        if path in OPEN_PATHS:
            return
        address = (scope.get("client") or ("",))[0]
        try:
            self._gatekeeper.admit(_header(scope, b"authorization"), address, part_of(path))
        except ApiError as error:
            self._metrics.rejected.labels(reason="rate" if error.status == 429 else "key").inc()
            raise

    async def _read_body(self, scope: "Scope", receive: "Receive") -> bytes:
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return b""
        length = _header(scope, b"content-length") or ""
        if length.isdecimal() and int(length) > self._max_body_bytes:
            raise self._too_large()
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body_bytes:
                raise self._too_large()
            more = message.get("more_body", False)
        return b"".join(parts)

    def _too_large(self) -> ApiError:
        self._metrics.rejected.labels(reason="size").inc()
        return ApiError(
            413, f"The body is larger than {self._max_body_bytes:,} bytes. Send less in one request."
        )


class _Answer:
    """The reply to one request: what has been sent of it, and errors in its stead."""

    def __init__(self, send: "Send", request_id: str) -> None:
        self.status = GONE
        self.request_id = request_id
        self._send, self._has_started = send, False

    async def send(self, message: "Message") -> None:
        if message["type"] == "http.response.start":
            self._has_started, self.status = True, message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.request_id.encode())]
        await self._send(message)

    async def fail(self, error: ApiError) -> None:
        if self._has_started:
            return
        body = json.dumps(error.to_dict()).encode()
        head = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
        headers = [(name.encode(), value.encode()) for name, value in head.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def part_of(path: str) -> str:
    """The part of the interface that a path belongs to: `/v1/models/e5-small` -> `models`."""
    names = [name for name in path.split("/") if name]
    if names and _VERSION.fullmatch(names[0]):
        names = names[1:]
    return names[0] if names else ""


def _header(scope: MutableMapping[str, Any], name: bytes) -> str | None:
    value = next((value for key, value in scope["headers"] if key == name), None)
    return None if value is None else value.decode("latin-1")


def _replay(body: bytes, receive: "Receive") -> Callable[[], Any]:
    """The body once more, then what else comes."""
    waiting = True

    async def again() -> "Message":
        nonlocal waiting
        if waiting:
            waiting = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again
