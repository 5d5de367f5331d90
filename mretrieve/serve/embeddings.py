"""`POST /v1/embeddings`, as OpenAI has it."""

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import to_json

from mretrieve.serve.clients import unless_gone
from mretrieve.serve.errors import ApiError
from mretrieve.serve.models import InputType
from mretrieve.serve.served import ServedModel
from mretrieve.serve.state import ServerState
from mretrieve.serve.tokens import LARGEST_ID, TokenTable

INLINE_NUMBERS = 20_000
"""Up to this many a reply is written at once; longer ones in another thread, so that nobody waits."""

Text = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(strict=True, ge=0, le=LARGEST_ID)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


def _form_of(value: Any) -> str | None:
    """Which of the forms an input has, by its first element, so that errors are about that form."""
    first = value[0] if isinstance(value, list) and value else ""
    if isinstance(value, str):
        return "as:text"
    if not isinstance(value, list):
        return None
    return "as:lists" if isinstance(first, list) else "as:texts" if isinstance(first, str) else "as:ids"


Input = Annotated[
    Annotated[Text, Tag("as:text")]
    | Annotated[list[Text], Field(min_length=1, fail_fast=True), Tag("as:texts")]
    | Annotated[TokenIds, Tag("as:ids")]
    | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True), Tag("as:lists")],
    Discriminator(
        _form_of,
        custom_error_type="input_form",
        custom_error_message="Input should be a string, a list of strings, token ids or lists of token ids",
    ),
]


class EmbeddingsRequest(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(extra="forbid")

    input: Input = Field(description="One text or several; also as token ids of cl100k_base.")
    model: Annotated[str, Field(min_length=1, description="One of `GET /v1/models`.")]
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Numbers, or little-endian float32 in base64."
    )
    dimensions: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        None, description="Shorter embeddings, for models that were trained for it."
    )
    user: str | None = Field(None, description="Taken and not used.")
    input_type: InputType | None = Field(
        None, description="What the texts are for, where the model's name does not say it."
    )
    truncate: Literal["END", "NONE"] = Field(
        "END", description="What happens to texts that are too long: their ends are cut, or an error."
    )


class Embedding(BaseModel):
    """One embedding."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """What the model read, with its prompts and special tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(BaseModel):
    """Embeddings in the order of the texts, of unit length."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


EXAMPLES: dict[str, Any] = {
    "texts": {
        "summary": "Two documents",
        "value": {"model": "e5-small", "input": ["ينبع النهر من الجبال", "The river rises in the mountains"]},
    },
    "query": {
        "summary": "A query",
        "value": {"model": "e5-small:query", "input": "Where does the river rise?"},
    },
}


def embeddings_router(state: ServerState) -> APIRouter:
    """The route and what it needs."""
    router = APIRouter(tags=["embeddings"])
    table = TokenTable(state.settings.token_table)

    @router.post(
        "/v1/embeddings",
        summary="Embed texts",
        response_class=Response,
        responses={200: {"model": EmbeddingsReply, "description": "The embeddings."}},
        openapi_extra={"requestBody": {"content": {"application/json": {"examples": EXAMPLES}}}},
    )
    async def create_embeddings(body: EmbeddingsRequest, request: Request) -> Response:
        """Texts to vectors of unit length, exactly as OpenAI's interface has it."""
        model, kind = state.models.find(body.model, body.input_type)
        length = check_dimensions(model, body.dimensions)
        inputs = as_list(body.input, state.settings.max_inputs)
        texts = await _as_texts(inputs, table)
        may_cut = body.truncate == "END"
        work = state.batcher.embed(texts, model, kind, may_cut=may_cut)
        embedded = await unless_gone(request, work)
        arguments = (shorten(embedded.vectors, length), body.encoding_format, body.model, embedded.n_tokens)
        if embedded.vectors.size <= INLINE_NUMBERS:
            content = write_reply(*arguments)
        else:
            content = await asyncio.to_thread(write_reply, *arguments)
        headers = {"x-texts-cut": str(embedded.cut)} if embedded.cut else None
        return Response(content, media_type="application/json", headers=headers)

    return router


def check_dimensions(model: ServedModel, wanted: int | None) -> int:
    """The length of embeddings to give.

    Raises:
        ApiError: the model was not trained for it (400).
    """
    if wanted is None or wanted == model.dim:
        return model.dim
    sizes = model.dimensions()
    if wanted not in sizes:
        raise ApiError(
            400,
            f"{model.name} was not trained for {wanted} dimensions. Choose from: {str(sizes)[1:-1]}.",
            param="dimensions",
            code="unsupported_dimensions",
        )
    return wanted


def as_list(given: Any, max_inputs: int) -> list[str] | list[list[int]]:
    """One text or several, as strings or token ids, to a list of either.

    Raises:
        ApiError: there are too many (400).
    """
    inputs = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    if len(inputs) > max_inputs:
        raise ApiError(
            400,
            f"There are {len(inputs):,} inputs, but a request may have {max_inputs:,}. Send fewer at once.",
            param="input",
        )
    return list(inputs)


async def _as_texts(inputs: list[Any], table: TokenTable) -> list[str]:
    if isinstance(inputs[0], str):
        return inputs
    texts = table.decode(inputs) if table.is_loaded else await asyncio.to_thread(table.decode, inputs)
    if not all(texts):
        raise ApiError(400, f"Text {texts.index('')} has token ids without any text.", param="input")
    return texts


def shorten(vectors: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """The first numbers of each vector, of unit length again.

    Args:
        vectors: (n, dim) float32, unit length.
        length: at most dim.

    Returns:
        (n, length) float32, unit length.
    """
    if length == vectors.shape[1]:
        return vectors
    cut = vectors[:, :length]
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.asarray(cut / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def write_reply(vectors: NDArray[np.float32], encoding_format: str, model: str, n_tokens: int) -> bytes:
    """The reply's JSON, vector after vector, so that other threads get their turns."""
    encode = _base64 if encoding_format == "base64" else _numbers
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, encode(vector))
        for index, vector in enumerate(vectors)
    )
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    rest = json.dumps({"model": model, "usage": usage})[1:].encode()
    return b'{"object":"list","data":[' + data + b"]," + rest


def _base64(vector: NDArray[np.float32]) -> bytes:
    return b'"' + base64.b64encode(vector.astype("<f4", copy=False).tobytes()) + b'"'


def _numbers(vector: NDArray[np.float32]) -> bytes:
    numbers: Sequence[float] = vector.tolist()
    return to_json(numbers)
