"""`GET /v1/models`: what models there are, as OpenAI has it."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from mretrieve.serve.served import ServedModel
from mretrieve.serve.state import ServerState


class ModelCard(BaseModel):
    """One name that requests may use."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "mretrieve"
    dimensions: list[int]
    max_tokens: int


class ModelList(BaseModel):
    """All names, the default model's first."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def models_router(state: ServerState) -> APIRouter:
    """The routes about models."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="List models")
    async def list_models() -> ModelList:
        """The names that `model` may have. `:query` and `:document` choose the prompt of a text."""
        return ModelList(data=[_card(name, state.models.find(name)[0]) for name in state.models.names])

    @router.get("/v1/models/{model:path}", summary="Describe a model")
    async def read_model(model: str) -> ModelCard:
        """One model: the lengths that its embeddings may have, and the tokens that it reads of a text."""
        return _card(model, state.models.find(model)[0])

    return router


def _card(name: str, model: ServedModel) -> ModelCard:
    return ModelCard(
        id=name, created=model.created, dimensions=model.dimensions(), max_tokens=model.max_length
    )
