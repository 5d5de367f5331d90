"""The page's functions for programs, under names: `gradio_client.Client(url).predict(api_name="/search")`."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
from gradio import events

from mretrieve import InputError, MissingDependencyError
from mretrieve.types import Mode

from . import actions
from .actions import Wish
from .cards import Card, Question
from .library import Library

Json = dict[str, Any]


def add_api(library: Library, *, sparse: bool) -> None:
    """Name the endpoints of the app that is being built.

    Args:
        library: the indexes.
        sparse: whether some index's model has experts, whose routing can be shown.
    """
    own = _Endpoints(library)
    functions: list[Callable[..., Any]] = [own.indexes, own.search, own.similar, own.explain, own.compare]
    functions += [own.info, own.routing] if sparse else [own.info]
    for function in functions:
        events.api(_with_errors(function), api_name=function.__name__, queue=False)


class _Endpoints:
    """The functions; their names, arguments and first lines are what Gradio's `/config` shows."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def indexes(self) -> list[str]:
        """Names of the open indexes; the first is used where none is given."""
        return self._library.names

    def search(
        self,
        query: str,
        index: str = "",
        mode: str = "",
        languages: list[str] | None = None,
        top_k: int = 10,
    ) -> Json:
        """Passages that answer a query: best first, with what each leg gave."""
        return _answer(*actions.find(self._library, query, self._wish(index, mode, languages, top_k)))

    def similar(
        self, row: int, index: str = "", mode: str = "", languages: list[str] | None = None, top_k: int = 10
    ) -> Json:
        """Passages that are most like the one in a row, which hits tell."""
        return _answer(*actions.find_similar(self._library, row, self._wish(index, mode, languages, top_k)))

    def explain(self, query: str, row: int, index: str = "", mode: str = "") -> Json:
        """Why a passage was found: the parts of its score and its terms."""
        wish = self._wish(index, mode)
        found = actions.find_one(self._library, query, row, wish)
        return actions.explanation_to_dict(self._library[wish.index], query, found)

    def compare(
        self,
        query: str,
        left: str = "",
        left_mode: str = "hybrid",
        right: str = "",
        right_mode: str = "dense",
        top_k: int = 10,
    ) -> Json:
        """Two rankings of a query: of two indexes, or of one in two modes."""
        return {
            "left": self.search(query, left, left_mode, None, top_k),
            "right": self.search(query, right, right_mode, None, top_k),
        }

    def info(self, index: str = "") -> Json:
        """What an index holds and how it was built."""
        name = self._wish(index).index
        return {"index": name} | actions.index_facts(self._library[name])

    def routing(self, query: str, index: str = "") -> Json:
        """Experts of each token of a query, where the index's model is sparse."""
        return actions.route_query(self._library, query, self._wish(index).index).to_dict()

    def _wish(self, index: str, mode: str = "", languages: list[str] | None = None, top_k: int = 10) -> Wish:
        chosen: Mode | None = mode or None  # type: ignore[assignment]  # checked by the retriever
        return Wish(index or next(iter(self._library.names), ""), chosen, languages or (), top_k)


def _answer(question: Question, cards: list[Card]) -> Json:
    return {
        "index": question.index,
        "mode": question.mode,
        "lang": question.lang,
        "seconds": round(question.seconds, 4),
        "hits": [actions.hit_to_dict(card.found) for card in cards],
    }


def _with_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have clients read what was wrong."""

    @wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (InputError, MissingDependencyError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    return wrapped
