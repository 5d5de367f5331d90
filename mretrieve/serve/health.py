"""`GET /health` and `GET /ready`: for what watches over servers."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from mretrieve.serve.errors import ApiError
from mretrieve.serve.state import ServerState


class Health(BaseModel):
    """The server lives."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The server has loaded what it serves."""

    status: Literal["ready"] = "ready"


def health_router(state: ServerState) -> APIRouter:
    """Both routes; neither needs a key."""
    router = APIRouter(tags=["operation"])

    @router.get("/health", summary="Whether the server lives")
    async def health() -> Health:
        """Says `ok` as long as the server runs."""
        return Health()

    @router.get("/ready", summary="Whether the server is ready")
    async def ready() -> Ready:
        """503 until all models and indexes are loaded, and again while the server stops."""
        if state.phase == "ready":
            return Ready()
        raise ApiError(503, f"The server is {state.phase}.", code="not_ready", retry_after=1)

    return router
