"""mretrieve: find passages by meaning in any language."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mretrieve.encode.encoder import Encoder
    from mretrieve.errors import InputError, MissingDependencyError
    from mretrieve.indexing import build_index
    from mretrieve.rank.rerank import Reranker
    from mretrieve.rank.retriever import Retriever
    from mretrieve.types import Document, Hit, Query

__all__ = [
    "Document",
    "Encoder",
    "Hit",
    "InputError",
    "MissingDependencyError",
    "Query",
    "Reranker",
    "Retriever",
    "build_index",
]

_HOMES = {
    "Document": "mretrieve.types",
    "Encoder": "mretrieve.encode.encoder",
    "Hit": "mretrieve.types",
    "InputError": "mretrieve.errors",
    "MissingDependencyError": "mretrieve.errors",
    "Query": "mretrieve.types",
    "Reranker": "mretrieve.rank.rerank",
    "Retriever": "mretrieve.rank.retriever",
    "build_index": "mretrieve.indexing",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first used, so that `import mretrieve` costs nothing."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        return import_module("importlib.metadata").version("mretrieve")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is there, also of what has not been imported yet."""
    return sorted({*globals(), *__all__, "__version__"})
