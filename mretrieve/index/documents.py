"""The documents of an index: an Arrow file, memory-mapped, read by row number.

All record batches but the last hold the same number of rows, so that the batch of a row is a division.
Of pyarrow only buffers, readers and writers are used here: its conversions (`pyarrow.array`, `to_numpy`)
import pandas where that is installed, which would cost each start half a second.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.types import Document

UNKNOWN = "und"
"""Stands for the language of documents that have none (ISO 639-2)."""

Rows = Sequence[int] | NDArray[np.int64]
"""Row numbers, from 0."""

_COLUMNS = ("doc_id", "title", "text", "lang")


class DocumentStore:
    """Documents by row number, from 0, in the order in which they were given.

    Safe to use from several threads. Nothing but the pages that are read is held in memory.
    """

    def __init__(self, path: Path) -> None:
        """Open a document file.

        Args:
            path: file written by `merge_shards`.

        Raises:
            InputError: it is no such file, or damaged.
        """
        import pyarrow as pa
        from pyarrow import ipc

        self.path = path
        try:
            self._reader = ipc.open_file(pa.memory_map(str(path)))
            names = tuple(self._reader.schema.names)
            self.n_batches: int = self._reader.num_record_batches
            if names != _COLUMNS or not self.n_batches:
                raise _damaged(path)
            self.batch_size: int = self._reader.get_batch(0).num_rows
            last = self._reader.get_batch(self.n_batches - 1).num_rows
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path) from error
        self._n_rows: int = (self.n_batches - 1) * self.batch_size + last
        self._codes: NDArray[np.int16] | None = None
        self._names: list[str] | None = None

    def __len__(self) -> int:
        return self._n_rows

    def get(self, rows: Rows) -> list[Document]:
        """Read documents.

        Args:
            rows: row numbers, in any order, repeated or not.

        Returns:
            One document per row, in the order of `rows`; `lang` is "und" where none was given.
        """
        return [
            Document(doc_id, text, title, lang) for doc_id, title, text, lang in self._cells(rows, _COLUMNS)
        ]

    def doc_ids(self, rows: Rows) -> list[str]:
        """Read only the ids of documents, as `get` does."""
        return [doc_id for (doc_id,) in self._cells(rows, ("doc_id",))]

    def contents(self, batch: int) -> list[str]:
        """Title and text of all documents of one record batch."""
        columns = self._reader.get_batch(batch)
        return [
            Document("", text, title).contents
            for title, text in zip(columns["title"].to_pylist(), columns["text"].to_pylist(), strict=True)
        ]

    def contents_of(self, lang: str) -> Iterator[list[str]]:
        """Title and text of all documents of one language in the order of their rows, some at a time.

        As many as a record batch has, though they come from many of those: where languages are mixed, each
        batch has a few documents of each, and what reads texts is much slower on a few at a time.
        """
        rows = self.rows_of(lang)
        for start in range(0, len(rows), self.batch_size):
            part = rows[start : start + self.batch_size]
            yield [Document("", text, title).contents for title, text in self._cells(part, ("title", "text"))]

    def languages(self) -> dict[str, int]:
        """Documents per language, by the language's code in ascending order."""
        counts = np.bincount(self._language_codes(), minlength=len(self._language_names()))
        return dict(zip(self._language_names(), counts.tolist(), strict=True))

    def rows_of(self, lang: str) -> NDArray[np.int64]:
        """Row numbers of one language's documents.

        Returns:
            (n,) int64, ascending: item i is the row of the i-th document of the language.
        """
        names = self._language_names()
        if lang not in names:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(self._language_codes() == names.index(lang)).astype(np.int64, copy=False)

    def in_languages(self, rows: NDArray[np.int64], languages: Collection[str]) -> NDArray[np.bool_]:
        """(k,) bool: whether each row's document is in one of the languages."""
        is_wanted = np.array([name in languages for name in self._language_names()], np.bool_)
        return is_wanted[self._language_codes()[rows]]

    def rows_of_ids(self, doc_ids: Collection[str]) -> NDArray[np.int64]:
        """(n,) int64, ascending: rows of the documents whose id is one of these; reads all ids."""
        found: list[int] = []
        for number in range(self.n_batches):
            ids = self._reader.get_batch(number).column(0).to_pylist()
            start = number * self.batch_size
            found += [start + place for place, doc_id in enumerate(ids) if doc_id in doc_ids]
        return np.array(found, dtype=np.int64)

    def _cells(
        self, rows: Sequence[int] | NDArray[np.int64], names: Sequence[str]
    ) -> Iterator[tuple[str, ...]]:
        batches: dict[int, list[Any]] = {}
        for row in np.asarray(rows, dtype=np.int64).tolist():
            if not 0 <= row < self._n_rows:
                raise IndexError(
                    f"row {row} is outside of {self.path}, which holds {self._n_rows} documents."
                )
            number, place = divmod(row, self.batch_size)
            if number not in batches:
                batch = self._reader.get_batch(number)
                batches[number] = [batch.column(_COLUMNS.index(name)) for name in names]
            yield tuple(column[place].as_py() for column in batches[number])

    def _language_names(self) -> list[str]:
        if self._names is None:
            names: list[str] = self._reader.get_batch(0).column(3).dictionary.to_pylist()
            self._names = names
        return self._names

    def _language_codes(self) -> NDArray[np.int16]:
        """(n,) int16: for each row the place of its language in `_language_names`."""
        if self._codes is None:
            codes = np.empty(self._n_rows, dtype=np.int16)
            for number in range(self.n_batches):
                column = self._reader.get_batch(number).column(3).indices
                start = number * self.batch_size
                codes[start : start + len(column)] = np.frombuffer(
                    column.buffers()[1], dtype=np.int16, count=len(column)
                )
            self._codes = codes
        return self._codes


def write_shard(path: Path, documents: Sequence[Document]) -> None:
    """Write documents as one shard, whole and on the disk when this returns.

    Raises:
        InputError: a text cannot be written as UTF-8 (lone surrogates), or a language is no code.
    """
    import pyarrow as pa
    from pyarrow import ipc

    languages = [document.lang or UNKNOWN for document in documents]
    for document, lang in zip(documents, languages, strict=True):
        _check(document, lang)
    columns = (
        [document.doc_id for document in documents],
        [document.title for document in documents],
        [document.text for document in documents],
        languages,
    )
    schema = _schema(pa, pa.large_string())
    batch = pa.record_batch([_strings(pa, values) for values in columns], schema=schema)
    with files.atomic_file(path) as file, ipc.new_file(file, schema) as writer:
        writer.write_batch(batch)


def shard_length(path: Path) -> int:
    """Documents in a shard."""
    import pyarrow as pa
    from pyarrow import ipc

    with pa.memory_map(str(path)) as source:
        return int(ipc.open_file(source).get_batch(0).num_rows)


def merge_shards(shards: Sequence[Path], path: Path) -> None:
    """Write one file of all shards, with a language as a number in one table of languages.

    Args:
        shards: files of `write_shard`, all of the same length but the last.
        path: file for `DocumentStore`.
    """
    import pyarrow as pa
    from pyarrow import ipc

    found: set[str] = set()
    for shard in shards:
        found.update(_read_shard(shard).column(3).to_pylist())
    code_of = {lang: code for code, lang in enumerate(sorted(found))}
    names = _strings(pa, list(code_of))
    schema = _schema(pa, pa.dictionary(pa.int16(), pa.large_string()))
    with files.atomic_file(path) as file, ipc.new_file(file, schema) as writer:
        for shard in shards:
            batch = _read_shard(shard)
            codes = np.array([code_of[lang] for lang in batch.column(3).to_pylist()], dtype=np.int16)
            indices = pa.Array.from_buffers(pa.int16(), len(codes), [None, pa.py_buffer(codes)])
            lang = pa.DictionaryArray.from_arrays(indices, names)
            writer.write_batch(pa.record_batch([*batch.columns[:3], lang], schema=schema))


def _read_shard(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import ipc

    return ipc.open_file(pa.memory_map(str(path))).get_batch(0)


def _strings(pa: Any, values: Sequence[str]) -> Any:
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(values), buffers)


def _schema(pa: Any, lang: Any) -> Any:
    # Large strings, since 1,024 long texts may pass the 2 GiB that 32-bit offsets reach.
    kinds = (pa.large_string(), pa.large_string(), pa.large_string(), lang)
    return pa.schema(list(zip(_COLUMNS, kinds, strict=True)))


def _check(document: Document, lang: str) -> None:
    where = f"{document.place}: " if document.place else ""
    for name in ("doc_id", "title", "text"):
        try:
            getattr(document, name).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{where}the {name} of document {document.doc_id!r} holds half of a character "
                f"(a lone surrogate at position {error.start}). Write it as whole Unicode characters."
            ) from error
    plain = lang.replace("-", "").replace("_", "")
    if not (plain.isascii() and plain.isalnum() and len(lang) <= 32):
        raise InputError(
            f"{where}document {document.doc_id!r} has the language {lang!r}, which is no language code. "
            "Use codes as 'sw' or 'zh'."
        )


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged or is no document file. Build the index again with --overwrite.")
