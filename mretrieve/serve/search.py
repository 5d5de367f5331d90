"""`POST /v1/search` and `GET /v1/indexes`: hybrid search in all indexes of a server."""

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from mretrieve.errors import InputError
from mretrieve.languages import detect_languages, normalize_language
from mretrieve.serve.clients import unless_gone
from mretrieve.serve.errors import ApiError
from mretrieve.serve.served_index import ServedIndex
from mretrieve.serve.state import ServerState
from mretrieve.types import Hit, Mode, Query

if TYPE_CHECKING:
    from prometheus_client import Histogram

MOST_HITS = 1000
"""Documents that one search may ask for."""

LONGEST_QUERY = 10_000
"""Characters; beyond this, BM25 would look up thousands of words."""

_PARTS = {"encode": "embed", "dense": "dense", "bm25": "bm25"}

Language = Annotated[str, Field(min_length=1, max_length=35)]


class SearchRequest(BaseModel):
    """What to look for, and where."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[str, Field(min_length=1, max_length=LONGEST_QUERY, description="Text in any language.")]
    index: str | None = Field(
        None, description="One of `GET /v1/indexes`; may be left out where there is one only."
    )
    mode: Mode | None = Field(
        None, description="Vectors, words or both; by default the most that the index allows."
    )
    top_k: Annotated[int, Field(strict=True, ge=1, le=MOST_HITS)] = Field(10, description="Hits, at most.")
    lang: Language | None = Field(
        None, description="The query's language, ISO 639-1; detected by default (`auto`)."
    )
    languages: Annotated[list[Language], Field(min_length=1, max_length=300)] | None = Field(
        None, description="Find only documents in these languages, ISO 639-1; `und` for unknown ones."
    )


class SearchHit(BaseModel):
    """A document that was found, with the scores and ranks (from 1) of the legs that found it."""

    doc_id: str
    score: float
    rank: int
    title: str
    text: str
    lang: str
    dense_score: float | None
    dense_rank: int | None
    bm25_score: float | None
    bm25_rank: int | None


class SearchTimes(BaseModel):
    """Milliseconds: of the whole search, and of the parts that it had."""

    total: float
    embed: float | None = None
    dense: float | None = None
    bm25: float | None = None


class SearchUsage(BaseModel):
    """Tokens of the query with its prompt, as far as the model read them; 0 where it was not asked."""

    prompt_tokens: int
    total_tokens: int


class SearchReply(BaseModel):
    """Hits, best first. `lang` is the language that the query was taken for, null if nobody asked."""

    object: Literal["search"]
    index: str
    generation: int
    mode: Mode
    lang: str | None
    hits: list[SearchHit]
    timings_ms: SearchTimes
    usage: SearchUsage


class IndexLanguage(BaseModel):
    """Documents of one language, and whether BM25 searches them."""

    documents: int
    bm25: bool


class IndexCard(BaseModel):
    """One index. `generation` grows by one each time a rebuilt one has taken its place."""

    id: str
    object: Literal["index"] = "index"
    generation: int
    documents: int
    bytes: int
    languages: dict[str, IndexLanguage]
    modes: list[Mode]
    model: str | None
    dimensions: int | None
    fusion: str
    built_at: str


class IndexList(BaseModel):
    """All indexes, by name."""

    object: Literal["list"] = "list"
    data: list[IndexCard]


EXAMPLES: dict[str, Any] = {
    "hybrid": {
        "summary": "By meaning and by words",
        "value": {"query": "Welcher Künstler lieferte die Holzschnitte für Luthers Bibel?", "top_k": 3},
    },
    "filtered": {
        "summary": "An English question to documents in Arabic and Hindi, by meaning",
        "value": {
            "query": "Why did Harvard end its early admission program?",
            "mode": "dense",
            "languages": ["ar", "hi"],
        },
    },
}


def search_router(state: ServerState) -> APIRouter:
    """The routes about indexes."""
    router = APIRouter(tags=["search"])
    seconds = _histogram(state)

    @router.post(
        "/v1/search",
        summary="Search an index",
        response_class=Response,
        responses={200: {"model": SearchReply, "description": "The hits."}},
        openapi_extra={"requestBody": {"content": {"application/json": {"examples": EXAMPLES}}}},
    )
    async def search(body: SearchRequest, request: Request) -> Response:
        """Find the documents that answer a query, by vectors, by words, or by both joined."""
        reply = await unless_gone(request, _search(state, body, seconds))
        return Response(to_json(reply), media_type="application/json")

    @router.get("/v1/indexes", summary="List indexes")
    async def list_indexes() -> IndexList:
        """The names that `index` may have, and what they hold."""
        return IndexList(data=[describe(served) for served in state.indexes.all])

    return router


def describe(served: ServedIndex) -> IndexCard:
    """What `GET /v1/indexes` says of an index."""
    manifest = served.manifest
    return IndexCard(
        id=served.name,
        generation=served.generation,
        documents=manifest.documents,
        bytes=manifest.n_bytes,
        languages={
            lang: IndexLanguage(documents=entry.documents, bm25=entry.analyzer is not None)
            for lang, entry in manifest.languages.items()
        },
        modes=served.modes,
        model=None if served.model is None else served.model.name,
        dimensions=None if manifest.encoder is None else manifest.encoder.dim,
        fusion=str(served.retriever.fusion),
        built_at=manifest.built.at,
    )


async def _search(state: ServerState, body: SearchRequest, seconds: "Histogram") -> dict[str, Any]:
    if state.phase == "loading":
        raise ApiError(503, "The indexes are being opened.", code="not_ready", retry_after=1)
    start = time.perf_counter()
    times: dict[str, float] = {}
    with state.indexes.use(body.index) as served:
        mode = served.choose_mode(body.mode)
        lang = None if body.lang == "auto" else body.lang
        _check(served, body, lang)
        vectors, n_tokens = None, 0
        if mode != "bm25":
            assert served.model is not None
            embedded = await state.batcher.embed([body.query], served.model, "query")
            vectors, n_tokens = embedded.vectors, embedded.n_tokens
            times["encode"] = time.perf_counter() - start
        work = partial(_find, served, body, mode, lang, vectors)
        hits, lang, more = await state.indexes.run(served, work)
    times |= more
    total = time.perf_counter() - start
    for part, spent in (*times.items(), ("total", total)):
        seconds.labels(served.name, _PARTS.get(part, part)).observe(spent)
    return {
        "object": "search",
        "index": served.name,
        "generation": served.generation,
        "mode": mode,
        "lang": lang,
        "hits": hits,
        "timings_ms": _milliseconds(times, total),
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }


def _check(served: ServedIndex, body: SearchRequest, lang: str | None) -> None:
    """Refuse what cannot be searched before the model works for it."""
    query = Query("", body.query, lang or "")
    for param, check in (
        ("query", lambda: served.retriever.check([Query("", body.query)], top_k=body.top_k, mode=None)),
        ("lang", lambda: served.retriever.check([query], top_k=body.top_k, mode=None)),
        ("languages", lambda: served.retriever.check_languages(body.languages)),
    ):
        try:
            check()
        except InputError as error:
            raise ApiError(400, str(error), param=param) from error


def _find(
    served: ServedIndex,
    body: SearchRequest,
    mode: Mode,
    lang: str | None,
    vectors: NDArray[np.float32] | None,
) -> tuple[list[Hit], str | None, Mapping[str, float]]:
    """The part of a search that blocks: FAISS, Lucene, and reading the documents."""
    retriever = served.retriever
    if lang is not None:
        lang = normalize_language(lang)
    elif mode != "dense":
        lang = detect_languages([body.query], among=retriever.languages)[0] or None
    query = Query("", body.query, lang or "")
    [ranked] = retriever.rank([query], top_k=body.top_k, mode=mode, languages=body.languages, vectors=vectors)
    return retriever.hits(ranked), lang, ranked.seconds


def _milliseconds(times: Mapping[str, float], total: float) -> dict[str, float | None]:
    parts = {"total": total} | {ours: times[theirs] for theirs, ours in _PARTS.items() if theirs in times}
    return {name: None for name in _PARTS.values()} | {
        name: round(1000 * spent, 3) for name, spent in parts.items()
    }


def _histogram(state: ServerState) -> "Histogram":
    from prometheus_client import Histogram

    return Histogram(
        "mretrieve_search_seconds",
        "Time of searches and of their parts.",
        ["index", "part"],
        registry=state.metrics.registry,
        buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
    )
