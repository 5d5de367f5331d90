"""The OpenAPI file: FastAPI's, with our errors in place of its own, and the names that this server has."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mretrieve.serve.state import ServerState

_DESCRIPTION = """Embeddings, hybrid search and reranking in any language.

`/v1/embeddings` and `/v1/models` are OpenAI's, `/v1/rerank` is Cohere's and Jina's: give their clients this
server's address. Errors come in OpenAI's envelope everywhere."""

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_STATUSES = {
    "400": "The request is wrong; `param` names the field.",
    "401": "No key, or a wrong one.",
    "403": "The key does not open this.",
    "404": "There is no such thing.",
    "413": "The body is too large.",
    "429": "Too many requests; Retry-After says how long to wait.",
    "500": "Something went wrong in the server.",
    "503": "Too much is waiting, or the server is not ready; Retry-After says how long to wait.",
}


def set_openapi(app: "FastAPI", state: "ServerState", *, needs_key: bool) -> None:
    """Have `/openapi.json` say what this server does."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(make_openapi(app, state, needs_key=needs_key))
        return made

    app.openapi = openapi  # type: ignore[method-assign]


def make_openapi(app: "FastAPI", state: "ServerState", *, needs_key: bool) -> dict[str, Any]:
    """The OpenAPI document of a server."""
    from fastapi.openapi.utils import get_openapi

    document = get_openapi(
        title="mretrieve", version=app.version, description=_DESCRIPTION, routes=app.routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"] = _ERROR
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _describe_errors(operation)
            if needs_key and path not in ("/health", "/ready"):
                operation["security"] = [{"key": []}]
    if needs_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    _name_models(schemas, state)
    return document


def _describe_errors(operation: dict[str, Any]) -> None:
    """Replace what FastAPI says of errors (its 422, which this server never sends) by ours."""
    responses = operation["responses"]
    responses.pop("422", None)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status, description in _STATUSES.items():
        responses[status] = {"description": description, "content": content}


def _name_models(schemas: dict[str, Any], state: "ServerState") -> None:
    """Say which models there are, and which lengths their embeddings have."""
    properties = schemas["EmbeddingsRequest"]["properties"]
    properties["model"] |= {"enum": state.models.names}
    sizes = sorted({size for model in state.models.all for size in model.dimensions()})
    properties["dimensions"] = {
        "anyOf": [{"type": "integer", "enum": sizes}, {"type": "null"}],
        "description": properties["dimensions"]["description"],
    }
