"""From what the page sends to what it shows: every error becomes something to read."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mretrieve import InputError, MissingDependencyError
from mretrieve.types import Mode

from . import actions, cards, comparison, examples, experts, explanation, facts
from .actions import Wish
from .library import Library
from .marking import mark

logger = logging.getLogger("mretrieve.ui")

NO_INDEX = cards.message(
    "No index is open",
    "Build one, as by `mretrieve index sample indexes/built/demo`, and start `mretrieve ui` again.",
)
EMPTY_QUERY = cards.message(
    "The box is empty", "Type a question or a few words, in any language, and press Enter."
)

Values = Mapping[str, Any]
"""What `page.js` sends."""


class Handlers:
    """The page's handlers, which give HTML.

    Args:
        library: the indexes to search.
    """

    def __init__(self, library: Library) -> None:
        self.library = library

    def welcome(self, index: str) -> str:
        """What stands there before the first question."""
        if not self.library.names:
            return NO_INDEX
        return self._shown(lambda: self._welcome(index))

    def _welcome(self, index: str) -> str:
        retriever = self.library[index]
        manifest = retriever.index.manifest
        return cards.welcome(
            examples.examples_for(retriever), documents=manifest.documents, languages=len(manifest.languages)
        )

    def search(self, query: str, index: str, mode: Mode, languages: Sequence[str], top_k: int) -> str:
        """Cards of hits."""
        if not self.library.names:
            return NO_INDEX
        if not query.strip():
            return EMPTY_QUERY
        wish = Wish(index, mode, languages, top_k)
        return self._shown(lambda: cards.results(*actions.find(self.library, query, wish)))

    def search_again(self, query: str, index: str, mode: Mode, languages: Sequence[str], top_k: int) -> str:
        """After a change of the controls: nothing is asked yet where the box is empty."""
        if not query.strip():
            return self.welcome(index)
        return self.search(query, index, mode, languages, top_k)

    def similar(self, hit: Values, index: str, mode: Mode, languages: Sequence[str], top_k: int) -> str:
        """Cards of the passages that are most like one."""

        def make() -> str:
            row, doc_id = int(hit["row"]), str(hit["doc_id"])
            found = actions.find_similar(
                self.library, row, Wish(index, mode, languages, top_k), doc_id=doc_id
            )
            return cards.results(*found)

        return self._shown(make)

    def explanation_of(self, hit: Values) -> str:
        """What "Explain" opens under a hit."""

        def make() -> str:
            languages = [code for code in str(hit["languages"]).split(",") if code]
            wish = Wish(str(hit["index"]), hit["mode"], languages)
            query, row = str(hit["query"]), int(hit["row"])
            found = actions.find_one(self.library, query, row, wish, doc_id=str(hit["doc_id"]))
            return explanation.explanation(self.library[wish.index], query, found)

        return self._shown(make)

    def sentences_of(self, asked: Values) -> dict[str, str]:
        """Passages with their closest sentence marked, as HTML by row; empty where that cannot be told."""
        rows = [int(row) for row in asked["rows"]]
        try:
            found = actions.closest_sentences(self.library, str(asked["index"]), str(asked["query"]), rows)
        except (InputError, MissingDependencyError, OSError) as error:
            logger.warning("Closest sentences: %s", error)
            return {}
        return {str(row): mark(text, [span], "sentence") for row, (text, span) in found.items()}

    def compare(self, query: str, left: Sequence[str], right: Sequence[str], top_k: int = 10) -> str:
        """Two rankings side by side; a side is an index and a mode."""
        if not self.library.names:
            return NO_INDEX
        if not query.strip():
            return EMPTY_QUERY

        def side(choice: Sequence[str]) -> comparison.Side:
            if not choice:
                raise InputError("Choose what to compare on both sides.")
            index, mode = choice
            return actions.find(self.library, query, Wish(index, mode, top_k=top_k))  # type: ignore[arg-type]

        return self._shown(lambda: comparison.comparison(side(left), side(right)))

    def routing(self, query: str, index: str) -> str:
        """Heat maps of the routing of a query."""
        if not query.strip():
            return EMPTY_QUERY
        return self._shown(lambda: experts.heat_maps(actions.route_query(self.library, query, index)))

    def facts(self, index: str) -> str:
        """What an index holds."""
        if not self.library.names:
            return NO_INDEX

        def make() -> str:
            manifest = self.library[index].index.manifest
            config = experts.sparse_config(manifest)
            said = experts.describe_experts(config) if config else ""
            return facts.facts(index, manifest, experts=said)

        return self._shown(make)

    def sparse_indexes(self) -> list[str]:
        """Names of the indexes whose models have experts."""
        config_of = experts.sparse_config
        return [name for name in self.library.names if config_of(self.library[name].index.manifest)]

    def sides(self) -> list[tuple[str, list[str]]]:
        """What can be compared: each index in each of its modes."""
        return [
            (f"{name} · {comparison.mode_name(mode)}", [name, mode])
            for name in self.library.names
            for mode in actions.modes_of(self.library[name])
        ]

    def _shown(self, make: Callable[[], str]) -> str:
        """Make HTML; errors of the user's end are told, others logged and owned up to."""
        error_message = partial(cards.message, kind="error")
        try:
            return make()
        except (InputError, MissingDependencyError) as error:
            return error_message("That did not work", str(error))
        except Exception:
            logger.exception("The page could not answer.")
            said = "The server failed. What went wrong stands where `mretrieve ui` was started."
            return error_message("Something broke", said)
