"""`POST /v1/rerank`, also as `/rerank` and `/v2/rerank`: Cohere's and Jina's interface.

Documents are scored by a cross-encoder where the server has one, else by the embedding model, and the reply
says by which. A cross-encoder works in a thread of its own, some documents at a time: requests take turns,
and the rest of one whose caller has gone is never computed.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag
from pydantic_core import to_json

from mretrieve.errors import InputError
from mretrieve.rank.rerank import Method, Reranker, Scores, best_first, first_tokens
from mretrieve.serve.batching import be_nice
from mretrieve.serve.clients import unless_gone
from mretrieve.serve.errors import ApiError
from mretrieve.serve.models import public_name
from mretrieve.serve.served import ServedModel
from mretrieve.serve.state import ServerState

AT_ONCE = 32
"""Documents that a cross-encoder reads before the next request has its turn."""

MAX_WAITING_DOCUMENTS = 4096
"""Documents that may wait for the cross-encoder before requests are turned away."""

PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")

_T = TypeVar("_T")


def _form_of(value: Any) -> str | None:
    return "as:text" if isinstance(value, str) else "as:object" if isinstance(value, dict) else None


GivenDocument = Annotated[
    Annotated[str, Field(min_length=1), Tag("as:text")] | Annotated[dict[str, Any], Tag("as:object")],
    Discriminator(
        _form_of,
        custom_error_type="document_form",
        custom_error_message="Input should be a string or an object",
    ),
]
"""With tags, so that an error is about the form that was given."""


class RerankRequest(BaseModel):
    """A query, and documents to put in order for it."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[str, Field(min_length=1, description="Text in any language.")]
    documents: Annotated[list[GivenDocument], Field(min_length=1), FailFast()] = Field(
        description='Texts, or objects as `{"text": ...}`.'
    )
    model: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The server's reranker, or an embedding model; the best by default."
    )
    top_n: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        None, description="Results, at most; all by default."
    )
    return_documents: bool = Field(False, description="Whether results hold their documents.")
    rank_fields: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="Of documents that are objects, the fields to read, in this order; `text` by default.",
    )
    max_tokens_per_doc: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        None, description="Tokens to read of each document; by default as many as the model can."
    )
    max_chunks_per_doc: int | None = Field(None, description="Taken and not used: documents are not cut up.")
    priority: int | None = Field(None, description="Taken and not used.")


class RerankResult(BaseModel):
    """One document: its place in the request, and how well it answers the query."""

    index: int
    relevance_score: float
    document: dict[str, Any] | None = None


class RerankUsage(BaseModel):
    """Tokens that the model read."""

    total_tokens: int


class RerankTokens(BaseModel):
    """The same in Cohere's words."""

    input_tokens: int


class RerankUnits(BaseModel):
    """Cohere's unit; nothing is billed here."""

    search_units: int = 1


class RerankVersion(BaseModel):
    """The version of Cohere's interface."""

    version: str


class RerankMeta(BaseModel):
    """What Cohere's clients read beside the results."""

    api_version: RerankVersion
    billed_units: RerankUnits
    tokens: RerankTokens
    warnings: list[str] | None = None


class RerankReply(BaseModel):
    """Documents, best first.

    `method` is `cross-encoder`, whose scores are probabilities, or `embedding`, whose scores are cosines.
    """

    id: str
    object: str = "list"
    model: str
    method: Method
    results: list[RerankResult]
    usage: RerankUsage
    meta: RerankMeta


EXAMPLES: dict[str, Any] = {
    "texts": {
        "summary": "Three documents, the best two wanted",
        "value": {
            "query": "Where does the river rise?",
            "documents": ["ينبع النهر من الجبال العالية.", "Im Wald stehen viele alte Bäume.", "A cat."],
            "top_n": 2,
            "return_documents": True,
        },
    },
}


class CrossEncoderService:
    """The server's cross-encoder with a thread of its own.

    Args:
        model: folder or hub id.
        device: `auto`, `cpu` or `cuda`.
        dtype: of the embedding models; a cross-encoder computes in fp32 unless this is `bf16`.
        max_tokens: of one request.

    Raises:
        InputError: there is no such model, or it is no cross-encoder.
    """

    def __init__(self, model: str, *, device: str, dtype: str, max_tokens: int) -> None:
        self.name = public_name(model)
        self._max_tokens = max_tokens
        self._reranker = Reranker(
            model, device=device, dtype="bf16" if dtype == "bf16" else "auto", batch_size=AT_ONCE
        )
        if self._reranker.method != "cross-encoder":
            raise InputError(
                f"--reranker {model} is an embedding model, not a cross-encoder. Leave the option out: "
                "documents are then scored by the server's embedding model."
            )
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mretrieve-rerank", initializer=be_nice)

    def load(self) -> None:
        """Load it now, in its thread."""
        self._thread.submit(self._reranker.load).result()

    def close(self) -> None:
        """End the thread; to be called when all requests have their answers."""
        self._thread.shutdown(cancel_futures=True)

    async def score(self, query: str, documents: Sequence[str], most: int | None) -> tuple[Scores, int]:
        """Score documents for a query.

        Args:
            query: text.
            documents: one or more.
            most: tokens to read of each document, None for as many as the model can.

        Returns:
            (n,) float32 probabilities, and the tokens that were read.

        Raises:
            ApiError: there is too much text (400), or too much is waiting (503).
        """
        if self._waiting and self._waiting + len(documents) > MAX_WAITING_DOCUMENTS:
            raise ApiError(
                503, "The server is busy: too many documents are waiting. Try again later.", retry_after=5
            )
        self._waiting += len(documents)
        try:
            if most is not None:
                documents = await self._run(partial(self._cut, documents, most))
            n_tokens = await self._run(partial(self._reranker.count_tokens, query, documents))
            _check_tokens(n_tokens, self._max_tokens)
            scores = np.empty(len(documents), np.float32)
            # Documents of similar length together, so that little is computed for padding.
            order = sorted(range(len(documents)), key=lambda place: -len(documents[place]))
            for start in range(0, len(order), AT_ONCE):
                places = order[start : start + AT_ONCE]
                some = [documents[place] for place in places]
                scores[places] = await self._run(partial(self._reranker.score, query, some))
            return scores, n_tokens
        finally:
            self._waiting -= len(documents)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _cut(self, documents: Sequence[str], most: int) -> list[str]:
        def count(text: str) -> int:
            return self._reranker.count_document_tokens([text])[0]

        return [first_tokens(document, most, count) for document in documents]


def rerank_router(state: ServerState) -> APIRouter:
    """The routes, and the cross-encoder that they need.

    Raises:
        InputError: the cross-encoder cannot be found.
    """
    settings = state.settings
    service: CrossEncoderService | None = None
    if settings.reranker is not None:
        service = CrossEncoderService(
            settings.reranker, device=settings.device, dtype=settings.dtype, max_tokens=settings.max_tokens
        )
        state.indexes.open_with(service.load)  # the server is ready once it is loaded

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if service is not None:
            await asyncio.to_thread(service.close)

    router = APIRouter(tags=["rerank"], lifespan=lifespan)

    async def rerank(body: RerankRequest, request: Request) -> Response:
        """Put documents in order for a query, as Cohere's and Jina's interfaces have it."""
        reply = await unless_gone(request, _rerank(state, service, body, request.url.path))
        return Response(to_json(reply), media_type="application/json")

    for path in PATHS:
        router.add_api_route(
            path,
            rerank,
            methods=["POST"],
            operation_id=f"rerank_{path.strip('/').replace('/', '_')}",
            summary="Rerank documents",
            response_class=Response,
            responses={200: {"model": RerankReply, "description": "The documents, best first."}},
            openapi_extra={"requestBody": {"content": {"application/json": {"examples": EXAMPLES}}}},
        )
    return router


async def _rerank(
    state: ServerState, service: CrossEncoderService | None, body: RerankRequest, path: str
) -> dict[str, Any]:
    if not body.query.strip():
        raise ApiError(400, "The query is empty: give some text to rank the documents for.", param="query")
    texts = _texts_of(body, state.settings.max_inputs)
    method: Method
    if service is not None and body.model in (None, service.name):
        name, method = service.name, "cross-encoder"
        scores, n_tokens = await service.score(body.query, texts, body.max_tokens_per_doc)
    else:
        model = _embedding_model(state, service, body.model)
        name, method = model.name, "embedding"
        scores, n_tokens = await _score_by_embedding(state, model, body, texts)
    version = "2" if path.startswith("/v2") else "1"
    meta: dict[str, Any] = {"api_version": {"version": version}, "billed_units": {"search_units": 1}}
    meta["tokens"] = {"input_tokens": n_tokens}
    if method == "embedding":
        meta["warnings"] = [f"Scores are cosines of the embedding model {name}: no cross-encoder was used."]
    results: list[dict[str, Any]] = []
    for place, score in best_first(scores, top_n=body.top_n):
        results.append({"index": place, "relevance_score": score})
        if body.return_documents:
            results[-1]["document"] = _as_object(body.documents[place])
    return {
        "id": f"rerank-{secrets.token_hex(12)}",
        "object": "list",
        "model": name,
        "method": method,
        "results": results,
        "usage": {"total_tokens": n_tokens},
        "meta": meta,
    }


def _embedding_model(
    state: ServerState, service: CrossEncoderService | None, name: str | None
) -> ServedModel:
    if name is None:
        return state.models.default
    try:
        return state.models.find(name)[0]
    except ApiError as error:
        known = [*([service.name] if service else []), *(model.name for model in state.models.all)]
        raise ApiError(
            404,
            f"There is no model {name!r:.150} to rerank with. Choose from: {', '.join(known)}.",
            param="model",
            code=error.code,
        ) from error


async def _score_by_embedding(
    state: ServerState, model: ServedModel, body: RerankRequest, texts: list[str]
) -> tuple[Scores, int]:
    """Cosines of query and documents, through the batches that all requests share."""
    if body.max_tokens_per_doc is not None and body.max_tokens_per_doc < model.max_length:
        texts = await asyncio.to_thread(_cut, model, texts, body.max_tokens_per_doc)
    query = await state.batcher.embed([body.query], model, "query")
    try:
        documents = await state.batcher.embed(texts, model, "document")
    except ApiError as error:
        error.param = "documents" if error.param == "input" else error.param  # as it is called here
        raise
    scores = documents.vectors @ query.vectors[0]
    return np.asarray(scores, np.float32), query.n_tokens + documents.n_tokens


def _cut(model: ServedModel, texts: Sequence[str], most: int) -> list[str]:
    [empty] = model.encoder.count_tokens([""])

    def count(text: str) -> int:
        return model.encoder.count_tokens([text])[0] - empty

    return [first_tokens(text, most, count) or text[:1] for text in texts]


def _texts_of(body: RerankRequest, max_documents: int) -> list[str]:
    """What is read of each document.

    Raises:
        ApiError: there are too many, or one has no text (400).
    """
    if len(body.documents) > max_documents:
        raise ApiError(
            400,
            f"There are {len(body.documents):,} documents, but a request may have {max_documents:,}. "
            "Send fewer at once.",
            param="documents",
        )
    texts = []
    fields = body.rank_fields or ["text"]
    for place, document in enumerate(body.documents):
        if isinstance(document, str):
            texts.append(document)
            continue
        values = [document[field] for field in fields if field in document]
        if not all(isinstance(value, str) for value in values) or not "".join(values).strip():
            raise ApiError(
                400,
                f"Document {place} has no text in: {', '.join(fields)}. Give a string, or an object with it.",
                param=f"documents.{place}",
            )
        texts.append("\n".join(values))
    return texts


def _as_object(document: str | dict[str, Any]) -> dict[str, Any]:
    return {"text": document} if isinstance(document, str) else document


def _check_tokens(n_tokens: int, most: int) -> None:
    if n_tokens > most:
        raise ApiError(
            400,
            f"Query and documents have {n_tokens:,} tokens together, but a request may have {most:,}. "
            "Send fewer documents at once.",
            param="documents",
            code="max_tokens_per_request",
        )
