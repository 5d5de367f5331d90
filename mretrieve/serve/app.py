"""The application: all routes behind one gate, and what happens when it starts and ends."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from mretrieve.memory import return_freed_pages
from mretrieve.serve.auth import Gatekeeper, check_exposure, read_keys
from mretrieve.serve.batching import Batcher
from mretrieve.serve.errors import add_error_handlers
from mretrieve.serve.gate import Gate
from mretrieve.serve.metrics import Metrics, metrics_router
from mretrieve.serve.models import DEFAULT, ModelRegistry
from mretrieve.serve.settings import Settings
from mretrieve.serve.state import ServerState

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

TIDY_SECONDS = 20.0
"""After which freed memory goes back to the system, again and again."""

OnLoaded = Callable[[Exception | None], None]
"""Told, in the event loop, when all is loaded, or why it could not be."""


def create_app(settings: Settings, *, on_loaded: OnLoaded | None = None) -> "FastAPI":
    """Make the application of one server. Models are found now and loaded once it runs.

    Args:
        settings: what the server is told.
        on_loaded: told when models and indexes are loaded; where they cannot be, `/ready` never says yes.

    Returns:
        An ASGI application.

    Raises:
        InputError: a model, an index or the key file cannot be used, or strangers could call without a key.
    """
    from fastapi import FastAPI

    keys = read_keys(settings.api_key_file) if settings.api_key_file else []
    check_exposure(settings.host, has_keys=bool(keys), insecure=settings.insecure)
    state = make_state(settings)
    app = FastAPI(
        title="mretrieve",
        version=version("mretrieve"),
        lifespan=_lifespan(state, on_loaded),
        docs_url=None,  # FastAPI's own page takes its scripts from another host
        redoc_url=None,
    )
    app.state.server = state
    _add_routes(app, state)
    add_error_handlers(app)
    app.add_middleware(
        Gate,
        gatekeeper=Gatekeeper(keys, requests_per_minute=settings.requests_per_minute),
        metrics=state.metrics,
        max_body_bytes=settings.max_body_bytes,
    )
    if settings.cors_origins:
        from fastapi.middleware.cors import CORSMiddleware

        app.add_middleware(  # the outermost, so that errors reach the browser's script too
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # clients send many of their own
            expose_headers=["retry-after", "x-request-id", "x-texts-cut"],
        )
    return app


def make_state(settings: Settings) -> ServerState:
    """The parts of a server, nothing of them loaded.

    Raises:
        InputError: a model or an index cannot be used.
    """
    from mretrieve.serve.indexes import IndexRegistry

    models = ModelRegistry(settings.models, device=settings.device, dtype=settings.dtype)
    indexes = IndexRegistry(settings, models)
    if not models.all:
        models.add(DEFAULT)
    metrics = Metrics()
    batcher = Batcher(
        models, metrics, max_tokens=settings.max_tokens, max_waiting_tokens=settings.max_waiting_tokens
    )
    return ServerState(settings, models, batcher, metrics, indexes)


def _add_routes(app: "FastAPI", state: ServerState) -> None:
    from mretrieve.serve.catalog import models_router
    from mretrieve.serve.docs import docs_router
    from mretrieve.serve.embeddings import embeddings_router
    from mretrieve.serve.health import health_router
    from mretrieve.serve.openapi import set_openapi
    from mretrieve.serve.rerank import rerank_router
    from mretrieve.serve.search import search_router

    for make in (embeddings_router, models_router, rerank_router, search_router, health_router):
        app.include_router(make(state))
    app.include_router(metrics_router(state.metrics))
    app.include_router(docs_router(app))
    set_openapi(app, state, needs_key=state.settings.api_key_file is not None)


def _lifespan(
    state: ServerState, on_loaded: OnLoaded | None
) -> "Callable[[FastAPI], AbstractAsyncContextManager[None]]":
    @asynccontextmanager
    async def lifespan(_: "FastAPI") -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(state, on_loaded))
        tidying = asyncio.create_task(_tidy())
        yield
        state.phase = "stopping"
        tidying.cancel()
        await loading
        await state.batcher.close()
        await asyncio.to_thread(state.indexes.close)

    return lifespan


async def _load(state: ServerState, on_loaded: OnLoaded | None) -> None:
    """Load models and indexes side by side, while the server already answers `/health`."""
    try:
        await asyncio.gather(asyncio.to_thread(state.models.load), asyncio.to_thread(state.indexes.open))
    except Exception as error:
        logger.debug("Where this comes from:", exc_info=True)
        failure: Exception | None = error
    else:
        failure = None
        if state.phase == "loading":
            state.phase = "ready"
    if on_loaded is not None:
        on_loaded(failure)


async def _tidy() -> None:
    """Return freed memory now and then: requests of all sizes leave holes, and the process would grow on."""
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        await asyncio.to_thread(return_freed_pages)
