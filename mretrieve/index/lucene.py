"""BM25 indexes: one Lucene index per language, whose document numbers are the order of insertion.

Scores are those of Anserini (a bag of words; k1 0.9 and b 0.4 unless told). An index may hold the pieces of a
multilingual vocabulary too, in a field of their own; scores are the sum of both fields' then. Documents are
not stored: their text and ids are in the document store, under the same row numbers.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.files import atomic_file
from mretrieve.index import lucene_java
from mretrieve.index.analyzers import (
    Analyzer,
    analyzer_named,
    analyzer_of,
    java_analyzer,
    java_pieces_analyzer,
)
from mretrieve.index.jvm import JAVA_LOCK, start_jvm
from mretrieve.index.lucene_batch import batch_adder
from mretrieve.index.lucene_java import FIELD, K1, PIECES_FIELD, B
from mretrieve.index.pieces import Cut, PieceMemory, join_pieces, whole
from mretrieve.index.terms import Terms

ANALYZER_FILE = "analyzer.json"
"""Beside Lucene's files: what the texts were analyzed with."""

_AT_ONCE = 1 << 20  # characters of documents that go to Lucene together
_MOST_WAITING = 2  # such parts that wait for Lucene


class LexicalWriter:
    """Writes the BM25 index of one language; one thread at a time may use it.

    Lucene works in a thread of its own, so that texts can be read and cut meanwhile: an error of one `add`
    may come out of a later one, or of `close`. A folder that exists is written over. As a context manager it
    closes itself, and gives the index up after an error.

    Attributes:
        path: the folder.
        analyzer: how texts become terms.
    """

    def __init__(
        self, path: Path, lang: str, *, cut: Cut | PieceMemory | None = None, terms: Terms = "analyzer"
    ) -> None:
        """Start an empty index.

        Args:
            path: folder to make.
            lang: ISO 639-1 code, or 639-3 where there is none; empty if unknown.
            cut: cuts texts into pieces; needed where `terms` asks for them or the language has no analyzer.
                With a memory, other languages' words need not be cut again.
            terms: of which kind; a language without an analyzer has pieces only.

        Raises:
            MissingDependencyError: Lucene, Java or pyjnius is not installed.
            OSError: the folder cannot be written.
        """
        start_jvm(for_writing=True)
        self.path = path
        self.analyzer = analyzer_of(lang, terms)
        memory = PieceMemory(cut) if callable(cut) else cut
        self._join = None if memory is None else memory.join
        self._n_documents = 0
        self._failed = False
        self._closed = False
        path.mkdir(parents=True, exist_ok=True)
        (path / ANALYZER_FILE).unlink(missing_ok=True)
        with JAVA_LOCK, lucene_java.os_errors(path):
            self._directory = lucene_java.open_directory(path)
            java, names = java_analyzer(self.analyzer), [FIELD]
            if self.analyzer.adds_pieces:
                java = lucene_java.two_analyzers(java, java_pieces_analyzer())
                names.append(PIECES_FIELD)
            self._writer = lucene_java.open_writer(self._directory, java)
            self._add = batch_adder(self._writer, *lucene_java.reusable_document(*names))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mretrieve-lucene")
        self._waiting: deque[Future[None]] = deque()

    def add(self, texts: Sequence[str]) -> None:
        """Add documents, whose rows follow those added before.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if self._closed or self._failed:
            raise ValueError(f"{self.path} is closed.")
        start_jvm()
        try:
            columns = self.analyzer.prepare_documents(texts, self._join)
            for rows in _parts(list(zip(*columns, strict=True))):
                self._waiting.append(self._thread.submit(self._add_rows, rows))
                self._wait(_MOST_WAITING)
            self._n_documents += len(texts)
        except BaseException:
            self._failed = True
            raise

    def _add_rows(self, rows: Sequence[Sequence[str]]) -> None:
        start_jvm()
        with lucene_java.os_errors(self.path):
            try:
                self._add(rows)
            except UnicodeEncodeError:  # before Lucene has seen any of them
                self._add([[whole(text) for text in row] for row in rows])

    def _wait(self, n_left: int) -> None:
        """Wait until only so many parts are not added yet."""
        while len(self._waiting) > n_left:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Join everything into one segment and put it on the disk; after an error in `add`, give it up.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if self._closed:
            return
        self._closed = True
        start_jvm()
        try:
            if not self._failed:
                self._wait(0)
                with lucene_java.os_errors(self.path):  # not under the lock: only this writer's class is used
                    self._writer.forceMerge(1)
                    self._writer.close()
                    with JAVA_LOCK:
                        self._directory.close()
        except BaseException:
            self._failed = True
            raise
        finally:
            self._thread.shutdown(cancel_futures=True)
            if self._failed:
                self._give_up()
        if self._failed:
            return
        (self.path / "write.lock").unlink(missing_ok=True)
        with atomic_file(self.path / ANALYZER_FILE) as file:
            content = {"language": self.analyzer.lang, "analyzer": str(self.analyzer)}
            file.write(json.dumps(content).encode())

    def _give_up(self) -> None:
        from jnius import JavaException

        try:
            self._writer.rollback()
            with JAVA_LOCK:
                self._directory.close()
        except JavaException:
            pass  # Lucene has closed everything itself after a serious error

    def __len__(self) -> int:
        """Number of documents added."""
        return self._n_documents

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._failed = self._failed or kind is not None
        self.close()


class LexicalIndex:
    """Searches the BM25 index of one language; any number of threads at once may.

    Attributes:
        path: the folder.
        analyzer: how queries become terms.
    """

    def __init__(
        self, path: Path | Sequence[Path], lang: str, *, cut: Cut | None = None, k1: float = K1, b: float = B
    ) -> None:
        """Open a folder written by `LexicalWriter`, or several as if they were one.

        Args:
            path: the folder; of several, the rows of each follow those of the one before it.
            lang: the language it was written for.
            cut: the `cut` that it was written with, if it was.
            k1: how much repeated terms count; 0 counts each once.
            b: how much long documents are marked down, from 0 to 1.

        Raises:
            InputError: there is no index, it is damaged, or was written with an analyzer that is not known
                now, or several with different ones.
            MissingDependencyError: Lucene, Java or pyjnius is not installed.
        """
        paths = [path] if isinstance(path, Path) else list(path)
        self.path = paths[0]
        self.analyzer = _analyzer_of_all(paths, lang)
        self._join = None if cut is None else partial(join_pieces, cut=cut)
        start_jvm()
        with JAVA_LOCK:
            self._directories: list[Any] = []
            self._readers: list[Any] = []
            for one in paths:
                self._open(one)
            self._reader = self._readers[0] if len(paths) == 1 else lucene_java.join_readers(self._readers)
            self._n_documents = int(self._reader.maxDoc())
            self._fields = java_fields(self.analyzer)
            self._searcher = lucene_java.open_searcher(self._reader, k1, b)
            self._queries = lucene_java.query_generator()
        self._closed = False

    def search(self, query: str, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the best documents for a query.

        Args:
            query: of any length; one without any term finds nothing.
            top_k: how many documents to find at most.

        Returns:
            Rows, (k,) int64, and their scores, (k,) float32, k <= top_k: descending by score, equal scores
            ascending by row.

        Raises:
            InputError: `top_k` is less than 1.
        """
        return self.search_many([query], top_k)[0]

    def search_many(
        self, queries: Sequence[str], top_k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Find the best documents for each query, as `search`."""
        if top_k < 1:
            raise InputError(f"top_k must be at least 1, got {top_k}.")
        if self._closed:
            raise ValueError(f"{self.path} is closed.")
        start_jvm()
        top_k = min(top_k, max(self._n_documents, 1))
        texts = zip(*self.analyzer.prepare_queries(queries, self._join), strict=True)
        return [self._search(one, top_k) for one in texts]

    def _search(self, texts: Sequence[str], top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        query = build_query(self._queries, self._fields, texts)
        found = lucene_java.scored_docs(self._searcher, query, top_k)
        return np.array(found.lucene_docids, dtype=np.int64), np.array(found.scores, dtype=np.float32)

    def _open(self, path: Path) -> None:
        from jnius import JavaException

        self._directories.append(lucene_java.open_directory(path))
        try:
            self._readers.append(lucene_java.open_reader(self._directories[-1]))
        except JavaException as error:
            self._close_all()
            reason = str(error.args[0]).removeprefix("JVM exception occurred: ")
            raise InputError(_damaged(path, reason)) from error

    def _close_all(self) -> None:
        for java in (*self._readers, *self._directories):
            java.close()

    def close(self) -> None:
        """Give back what it holds; no search may be under way."""
        if not self._closed:
            self._closed = True
            start_jvm()
            with JAVA_LOCK:
                self._close_all()

    def __len__(self) -> int:
        """Number of documents."""
        return self._n_documents

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def java_fields(analyzer: Analyzer) -> dict[str, Any]:
    """The fields of an index, and Lucene's analyzer of each; Java runs already."""
    fields = {FIELD: java_analyzer(analyzer)}
    return fields | {PIECES_FIELD: java_pieces_analyzer()} if analyzer.adds_pieces else fields


def build_query(generator: Any, fields: Mapping[str, Any], texts: Sequence[str]) -> Any:
    """Lucene's query for what `Analyzer.prepare_queries` made of one text.

    Args:
        generator: of `lucene_java.query_generator`, for nobody else's use meanwhile.
        fields: of `java_fields`.
        texts: (n_fields,) the text of each.
    """
    queries = []
    for (name, analyzer), text in zip(fields.items(), texts, strict=True):
        try:
            queries.append(generator.buildQuery(name, analyzer, text))
        except UnicodeEncodeError:
            queries.append(generator.buildQuery(name, analyzer, whole(text)))
    if len(queries) == 1:
        return queries[0]
    with JAVA_LOCK:
        return lucene_java.either(*queries)


def _analyzer_of_all(paths: Sequence[Path], lang: str) -> Analyzer:
    """The analyzer that folders were written with, which should be one of the language's."""
    first = _read_analyzer(paths[0])
    analyzer = analyzer_named(lang, first)
    if analyzer is None:
        raise InputError(
            f"{paths[0]} was written with the analyzer {first}, but queries in "
            f"{lang or 'an unknown language'} are read with {analyzer_of(lang)}. Build the index again."
        )
    for path in paths[1:]:
        if (other := _read_analyzer(path)) != first:
            raise InputError(
                f"{path} was written with the analyzer {other}, but {paths[0]} with {first}. "
                "Build the index again."
            )
    return analyzer


def _read_analyzer(path: Path) -> str:
    try:
        return str(json.loads((path / ANALYZER_FILE).read_bytes())["analyzer"])
    except FileNotFoundError as error:
        raise InputError(
            f"{path} holds no BM25 index of Lucene: it has no {ANALYZER_FILE}. Build the index again."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(_damaged(path / ANALYZER_FILE, repr(error))) from error


def _damaged(path: Path, reason: str) -> str:
    return (
        f"{path} cannot be read ({reason}). Build the index again with --overwrite, or restore a copy of it."
    )


def _parts(rows: Sequence[Sequence[str]]) -> Iterator[Sequence[Sequence[str]]]:
    """Documents, as many at a time as have `_AT_ONCE` characters or little more."""
    start, size = 0, 0
    for end, row in enumerate(rows, start=1):
        size += sum(map(len, row))
        if size >= _AT_ONCE or end == len(rows):
            yield rows[start:end]
            start, size = end, 0
