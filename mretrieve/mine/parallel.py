"""Translations that people made: sentences looked up in a file of parallel text."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mretrieve.datasets.files import readable
from mretrieve.datasets.source import resolve_address
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language
from mretrieve.mine.sentences import has_spaces, join_sentences, split_sentences
from mretrieve.mine.translator import Languages, by_source

_NOT_LANGUAGES = frozenset({"id", "_id", "doc", "split", "topic", "source", "url"})
"""Keys of a row that are no languages, although `id` would be one."""


class ParallelFile:
    """Looks up sentences in rows with one key per language.

    Args:
        path: JSON lines, plain, gzipped or xz-compressed; codes as NTREX-128 and FLORES write them, or any
            other that are known. Of several columns in a language all are known as sources; the first is
            the target.

    Raises:
        InputError: the file is missing, broken, or holds no two languages.
    """

    characters_at_once = 10_000_000

    def __init__(self, path: Path) -> None:
        self._path = resolve_address(path)
        self._rows = list(_read(self._path))
        self._columns: dict[str, list[str]] = {}
        for key in dict.fromkeys(key for row in self._rows for key in row):
            if lang := _language(key):
                self._columns.setdefault(lang, []).append(key)
        if len(self._columns) < 2:
            raise InputError(
                f"{path} holds no two languages: a row of parallel text is an object with one key per "
                'language, such as {"eng": "A cat.", "deu": "Eine Katze."}.'
            )
        self._tables: dict[tuple[str, str], dict[str, str]] = {}

    @property
    def name(self) -> str:
        """The file's name."""
        return f"parallel:{self._path.name}"

    @cached_property
    def languages(self) -> Languages:
        """Each language of the file into each other one."""
        return by_source([(one, other) for one in self._columns for other in self._columns])

    @cached_property
    def _digest(self) -> str:
        with open(self._path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def version(self, source: str, target: str) -> str:
        """A digest of the file."""
        return self._digest

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Look up whole texts, else each of their sentences; None where one is not in the file."""
        table = self._table(source, target)
        return [table.get(_key(text)) or _by_sentences(text, table, target) for text in texts]

    def _table(self, source: str, target: str) -> dict[str, str]:
        if (source, target) not in self._tables:
            table: dict[str, str] = {}
            for row in self._rows:
                translation = row.get(self._columns[target][0])
                for column in self._columns[source]:
                    if translation and row.get(column):
                        table.setdefault(_key(row[column]), translation)
            self._tables[source, target] = table
        return self._tables[source, target]


def _by_sentences(text: str, table: dict[str, str], target: str) -> str | None:
    pieces = split_sentences(text)
    found = [table.get(_key(sentence)) for sentence, _ in pieces]
    known = [sentence for sentence in found if sentence is not None]
    if len(known) < len(pieces) or not known:
        return None
    return join_sentences(known, pieces, spaces=has_spaces(target))


def _key(text: str) -> str:
    return " ".join(text.split())


def _language(key: str) -> str:
    if key.lower() in _NOT_LANGUAGES:
        return ""
    try:
        return normalize_language(key)
    except InputError:
        return ""


def _read(path: Path) -> Iterator[dict[str, str]]:
    try:
        with readable(path) as file:
            for number, line in enumerate(file, start=1):
                row: Any = json.loads(line) if line.strip() else {}
                if not isinstance(row, dict):
                    raise InputError(f"{path}:{number}: a row of parallel text is a JSON object.")
                yield {key: text for key, text in row.items() if isinstance(text, str)}
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no file of parallel text, or cut off: {error}.") from error
