"""A server of the Model Context Protocol: agents search an index through the official SDK.

It speaks through standard input and output, as the agent's program starts it. The model is loaded with the
first search, so that the agent sees the tool at once.
"""

import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.rank.retriever import Retriever
from mretrieve.serve.errors import without_paths
from mretrieve.types import Hit, Mode

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

NOT_INSTALLED = (
    "The MCP server needs the package mcp, which is not installed. Run `pip install 'mretrieve[serve]'`."
)

MOST_HITS = 100
"""Passages for one call: more would fill an agent's memory."""

_LANGUAGES_NAMED = 30  # in the tool's description


class FoundPassage(BaseModel):
    """One passage that was found."""

    rank: int
    score: float
    doc_id: str
    title: str
    text: str
    lang: str


class FoundPassages(BaseModel):
    """The passages that answer a query, best first; none where nothing was found."""

    passages: list[FoundPassage]


class IndexSearcher:
    """Searches an index for one agent; safe to use from several threads.

    An index that is rebuilt on disk is opened again at the next search.

    Args:
        open_retriever: opens the index.

    Raises:
        InputError: there is no usable index.
    """

    def __init__(self, open_retriever: Callable[[], Retriever]) -> None:
        self._open = open_retriever
        self._retriever = open_retriever()
        self._lock = threading.Lock()

    @property
    def retriever(self) -> Retriever:
        """What searches now."""
        return self._retriever

    def search(
        self,
        query: str,
        *,
        top_k: int,
        mode: Mode | None,
        lang: str | None,
        languages: Collection[str] | None,
    ) -> list[Hit]:
        """Find passages, as `Retriever.search`."""
        with self._lock:
            if self._retriever.index.is_replaced:
                newer = self._open()
                self._retriever.index.close()
                self._retriever = newer
            return self._retriever.search(query, top_k=top_k, mode=mode, lang=lang, languages=languages)


def make_mcp_server(searcher: IndexSearcher, *, name: str) -> "MCPServer[None]":
    """A server with one tool, `search`.

    Args:
        searcher: answers it.
        name: of the index, for the agent.

    Raises:
        MissingDependencyError: the SDK is not installed.
    """
    try:
        from mcp.server.mcpserver import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
        from mcp.types import ToolAnnotations
    except ImportError as error:
        raise MissingDependencyError(NOT_INSTALLED) from error
    from importlib.metadata import version

    server: MCPServer[None] = MCPServer(
        f"mretrieve: {name}", instructions=describe(searcher.retriever, name), version=version("mretrieve")
    )

    def search(
        query: Annotated[str, Field(description="What to look for: a question or words, in any language.")],
        top_k: Annotated[int, Field(ge=1, le=MOST_HITS, description="Passages to give, at most.")] = 5,
        mode: Annotated[
            Mode | None,
            Field(description="hybrid (the best, and the default), dense (by meaning) or bm25 (by words)."),
        ] = None,
        lang: Annotated[
            str | None, Field(description="The query's language, ISO 639-1; detected by default.")
        ] = None,
        languages: Annotated[
            list[str] | None, Field(description="Find only passages in these languages, ISO 639-1.")
        ] = None,
    ) -> FoundPassages:
        try:
            hits = searcher.search(query, top_k=top_k, mode=mode, lang=lang, languages=languages)
        except (InputError, MissingDependencyError) as error:
            raise ToolError(without_paths(str(error))) from error
        return FoundPassages(passages=[_passage(hit) for hit in hits])

    server.add_tool(
        search,
        title=f"Search {name}",
        description=describe(searcher.retriever, name),
        annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
    )
    return server


def describe(retriever: Retriever, name: str) -> str:
    """What an agent has to know of an index before it searches."""
    manifest = retriever.index.manifest
    languages = sorted(manifest.languages, key=lambda lang: (-manifest.languages[lang].documents, lang))
    named = ", ".join(languages[:_LANGUAGES_NAMED])
    if len(languages) > _LANGUAGES_NAMED:
        named += f" and {len(languages) - _LANGUAGES_NAMED} more"
    return (
        f"Find passages in the index '{name}': {manifest.documents:,} passages, languages {named}. "
        "The query may be in another language than the passages that answer it."
    )


def run_mcp(index: Path, open_retriever: Callable[[], Retriever]) -> None:
    """Serve an index to the program at the other end of standard input and output, until it goes away.

    Args:
        index: its folder, for its name.
        open_retriever: opens it.

    Raises:
        InputError: there is no usable index.
        MissingDependencyError: the SDK is not installed.
    """
    server = make_mcp_server(IndexSearcher(open_retriever), name=index.resolve().name)
    server.run("stdio")


def _passage(hit: Hit) -> FoundPassage:
    return FoundPassage(
        rank=hit.rank, score=hit.score, doc_id=hit.doc_id, title=hit.title, text=hit.text, lang=hit.lang
    )
