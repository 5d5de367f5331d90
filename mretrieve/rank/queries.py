"""Queries before any work is done for them: whether they can be answered, and in which language they are."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import get_args

from mretrieve.errors import InputError
from mretrieve.languages import complete_languages, normalize_language
from mretrieve.types import Mode, Query


def check_queries(queries: Sequence[Query]) -> None:
    """Make sure that queries hold something to search for.

    Raises:
        InputError: one is empty or no Unicode, or names an unknown language.
    """
    for query in queries:
        if not query.text.strip():
            raise InputError("The query is empty: give some text to search for.")
        try:
            query.text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"The query {query.text!r} is not valid Unicode: it holds half of a character. Give it as "
                "UTF-8."
            ) from error
        normalize_language(query.lang)


def check_mode(mode: str) -> None:
    """Make sure that a mode is one of `Mode`.

    Raises:
        InputError: it is not.
    """
    if mode not in get_args(Mode):
        raise InputError(f"Unknown mode '{mode}'. Choose from: {', '.join(get_args(Mode))}.")


def with_languages(queries: Sequence[Query], *, among: Collection[str] | None = None) -> list[Query]:
    """Queries with their language filled in by detection where they have none.

    Args:
        queries: whose language is asked for.
        among: languages to expect, as in `detect_languages`.
    """
    texts, known = [query.text for query in queries], [query.lang for query in queries]
    found = complete_languages(texts, known, among=among)
    return [replace(query, lang=lang) for query, lang in zip(queries, found, strict=True)]


def query_languages(queries: Sequence[Query], *, among: Collection[str] | None = None) -> list[str]:
    """The language of each query, as `normalize_language` gives it; arguments as of `with_languages`."""
    return [normalize_language(query.lang) for query in with_languages(queries, among=among)]
