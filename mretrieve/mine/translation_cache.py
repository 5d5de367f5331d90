"""Translations kept on disk, so that no text is translated twice."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mretrieve.errors import InputError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS translations (
    engine TEXT, source TEXT, target TEXT, digest BLOB, translation TEXT,
    PRIMARY KEY (engine, source, target, digest)
) WITHOUT ROWID
"""
_WAIT_SECONDS = 60.0
_AT_ONCE = 500  # SQLite takes some thousand parameters in one statement


@dataclass(frozen=True, slots=True)
class Direction:
    """From which language into which, and by what: engine and version."""

    engine: str
    source: str
    target: str


class TranslationCache:
    """A file of translations by engine, languages and the text's digest; several processes may share it.

    Args:
        path: file, made if it does not exist.

    Raises:
        InputError: it cannot be made, or is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
            try:
                self._connection.execute(_SCHEMA)
                # A translation counts once it is on the disk: a power cut then costs one batch at most.
                self._connection.execute("PRAGMA synchronous = FULL")
            except sqlite3.Error:
                self._connection.close()
                raise

    def get(self, texts: Sequence[str], direction: Direction) -> dict[str, str | None]:
        """The translations of those texts that were tried before; None where it came to nothing."""
        digests = {_digest(text): text for text in texts}
        keys = list(digests)
        found: dict[str, str | None] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            with self._errors():
                rows = self._connection.execute(
                    "SELECT digest, translation FROM translations "
                    f"WHERE engine = ? AND source = ? AND target = ? AND digest IN ({marks})",
                    (direction.engine, direction.source, direction.target, *some),
                )
                found.update((digests[digest], translation) for digest, translation in rows)
        return found

    def put(self, translations: Mapping[str, str | None], direction: Direction) -> None:
        """Keep translations, text -> translation; on the disk when this returns."""
        rows = [
            (direction.engine, direction.source, direction.target, _digest(text), translation)
            for text, translation in translations.items()
        ]
        with self._errors(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"The cache of translations {self.path} cannot be used ({error}): name another file by "
                "--cache, or remove it."
            ) from error


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
