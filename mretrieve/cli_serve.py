"""The command that serves models and indexes over HTTP."""

import logging
import os
import signal
import socket
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mretrieve import arguments as take
from mretrieve import report
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.serve.settings import LOOPBACK, Settings

if TYPE_CHECKING:
    import uvicorn

app = typer.Typer()

SWITCH_SECONDS = 0.0002
"""How long a thread may keep Python's interpreter from the others."""

KEEP_ALIVE_SECONDS = 65
"""How long an idle connection stays open: longer than with clients and proxies, so that they close it."""

Indexes = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[INDEX]...",
        help="Indexes, NAME=INDEX for another name, folders of indexes, or addresses of Milvus.",
        show_default=False,
    ),
]
Models = Annotated[
    list[str] | None,
    take.option(
        "--model",
        metavar="MODEL",
        help="e5-small (the default), a sentence-transformers folder, or a hub id; NAME=MODEL for another "
        "name; may be given many times.",
    ),
]
Reranker = Annotated[str | None, take.option(metavar="MODEL", help="Cross-encoder for /v1/rerank.")]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port to listen on; 0 for any.")]
KeyFile = Annotated[
    Path | None,
    take.option(
        "--api-key-file",
        metavar="FILE",
        help="A key on each line, rpm=N and only=embeddings,search behind it where wanted.",
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Allow an address that strangers can reach, without keys.")
]
Cors = Annotated[
    list[str] | None,
    take.option(
        metavar="ORIGIN",
        help="Web origin that may call from a browser, '*' for any; may be given many times.",
    ),
]
RateLimit = Annotated[
    int | None,
    take.option(metavar="N", min=1, help="Requests per minute of each key or address."),
]
TokenTable = Annotated[
    Path | None,
    take.option(metavar="FILE", help="cl100k_base.tiktoken, where it cannot be fetched."),
]


@app.command(
    short_help="Serve embeddings, search and reranking over HTTP.",
    epilog="Example: mretrieve serve my-index --port 8080",
)
def serve(
    indexes: Indexes = None,
    model: Models = None,
    reranker: Reranker = None,
    host: Host = LOOPBACK,
    port: Port = 8080,
    api_key_file: KeyFile = None,
    insecure: Insecure = False,
    cors: Cors = None,
    rate_limit: RateLimit = None,
    token_table: TokenTable = None,
    device: take.Device = "auto",
    dtype: take.Dtype = "auto",
) -> None:
    """Serve embeddings, search and reranking over HTTP, for the clients of OpenAI and Cohere.

    /docs on the server describes what there is. Ctrl-C or SIGTERM ends it when it has answered what it has
    taken.
    """
    settings = Settings(
        indexes=tuple(indexes or ()),
        models=tuple(model or ()),
        reranker=reranker,
        device=device,
        dtype=dtype,
        host=host,
        port=port,
        api_key_file=api_key_file,
        insecure=insecure,
        cors_origins=tuple(cors or ()),
        requests_per_minute=rate_limit,
        token_table=token_table,
    )
    run(settings)


def run(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        InputError: something given cannot be used, or the port is taken.
        MissingDependencyError: a package for serving is not installed.
    """
    start = time.perf_counter()
    _log_without_traces()
    _check_packages()
    import uvicorn

    from mretrieve.serve.app import create_app

    failures: list[Exception] = []

    def on_loaded(failure: Exception | None) -> None:
        if failure is None:
            report.tell(f"Ready on {url} after {time.perf_counter() - start:.1f} s.")
        else:
            failures.append(failure)
            server.should_exit = True

    # A model asks for the interpreter after each layer, and by default waits 5 ms for a thread that has it.
    sys.setswitchinterval(SWITCH_SECONDS)
    application = create_app(settings, on_loaded=on_loaded)
    with listen(settings.host, settings.port) as listener:
        url = _url(settings.host, listener.getsockname()[1])
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=settings.grace_seconds,
            )
        )
        _run_until_stopped(server, listener)
    if failures:
        raise failures[0]


def _check_packages() -> None:
    for package in ("fastapi", "prometheus_client", "uvicorn"):
        if find_spec(package) is None:
            raise MissingDependencyError(
                f"Serving needs the package {package}: run `pip install 'mretrieve[serve]'`."
            )


def _run_until_stopped(server: "uvicorn.Server", listener: socket.socket) -> None:
    """Serve; a signal that ends it is no failure, so that it is not raised again when all is done."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: None) for number in signals]
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """Take a port.

    Raises:
        InputError: it is taken, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
        # Connections inherit it. asyncio would set it only where the protocol is named, and without it the
        # second half of every answer waits 40 ms for the client's acknowledgement of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(f"Cannot listen on {_url(host, port)}: {reason}. Choose another --port.") from error


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _WithoutTrace(logging.Filter):
    """Drops where an error comes from, which is for developers, from what others log."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def _log_without_traces() -> None:
    """Messages of uvicorn and asyncio go to stderr as ours do: one line each, no trace, no path."""
    if logging.getLogger("mretrieve").isEnabledFor(logging.DEBUG):
        return
    warnings.simplefilter("ignore")  # they name source files
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        handler = report.ToStderr(logging.WARNING)
        handler.addFilter(_WithoutTrace())
        logger.handlers, logger.propagate = [handler], False
