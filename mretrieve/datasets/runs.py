"""Read and write rankings in the format of TREC: `query_id Q0 doc_id rank score tag`.

trec_eval passes over the column of ranks: it orders by score, kept in single precision, and equal scores by
document id, the last in the alphabet first. What is written here has that order, so that everyone who reads
it sees one ranking.
"""

import gzip
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, cast

from mretrieve.datasets.files import BadRecord, read_lines
from mretrieve.datasets.source import resolve_address
from mretrieve.errors import InputError
from mretrieve.files import atomic_file
from mretrieve.types import Run

OnDuplicate = Callable[[str, str], None]
"""Told of a query_id and a doc_id."""


def read_run(path: str | Path, *, on_duplicate: OnDuplicate | None = None) -> Run:
    """Read a run.

    Args:
        path: file in TREC format, gzipped or not.
        on_duplicate: told of each line that ranks a document again for its query; the document then counts
            once, at its best score. Without it such a line is an error.

    Returns:
        The scores, queries and documents in the order of the file.

    Raises:
        InputError: the file is missing, not readable or empty; a line has not six columns; a score is no
            finite number; or a document is ranked twice for a query. The message tells the line.
    """
    file = resolve_address(path)
    run: Run = {}
    for number, line in read_lines(file):
        if isinstance(line, BadRecord):
            raise InputError(f"{file}:{number}: {line}.")
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 6:
            raise InputError(
                f"{file}:{number}: {len(fields)} columns, but a run has `query_id Q0 doc_id rank score tag`."
            )
        query_id, _, doc_id, _, score, _ = fields
        ranking = run.setdefault(query_id, {})
        if doc_id in ranking:
            if on_duplicate is None:
                raise InputError(
                    f"{file}:{number}: document '{doc_id}' is ranked twice for query '{query_id}'."
                )
            on_duplicate(query_id, doc_id)
        value = _score(score, f"{file}:{number}")
        ranking[doc_id] = max(value, ranking.get(doc_id, value))
    if not run:
        raise InputError(f"{file} holds no ranking.")
    return run


def write_run(path: str | Path, run_rows: Iterable[tuple[str, Sequence[tuple[str, float]]]], tag: str) -> int:
    """Write a run, whole or not at all.

    Scores are written in single precision with all their digits. Documents of equal score are put into the
    order that trec_eval gives them.

    Args:
        path: file to write; gzipped if its name ends in `.gz`.
        run_rows: for each query its id and its ranking, (doc_id, score) from the best.
        tag: name of the run.

    Returns:
        Number of rows.

    Raises:
        InputError: an id or the tag is empty or holds white space, which the format cannot hold; or the file
            cannot be written.
        ValueError: a query or a document of it comes twice, a score is not finite or higher than the one
            before.
    """
    path = Path(path)
    _check_name(tag, "tag")
    n_rows = 0
    seen: set[str] = set()
    with _replaced(path) as whole, _packed(whole, path) as file:
        for query_id, ranking in run_rows:
            _check_name(query_id, "query id")
            if query_id in seen:
                raise ValueError(f"query '{query_id}' comes twice.")
            seen.add(query_id)
            rows = _in_order(query_id, ranking)
            file.writelines(
                f"{query_id} Q0 {doc_id} {rank} {score!r} {tag}\n".encode()
                for rank, (doc_id, score) in enumerate(rows, start=1)
            )
            n_rows += len(rows)
    return n_rows


def _in_order(query_id: str, ranking: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Check a ranking and put equal scores into trec_eval's order."""
    rows = [(doc_id, _single_precision(score)) for doc_id, score in ranking]
    for rank, (doc_id, score) in enumerate(rows, start=1):
        _check_name(doc_id, "document id")
        if not math.isfinite(score):
            raise ValueError(f"the score of document '{doc_id}' for query '{query_id}' is {score}.")
        if rank > 1 and score > rows[rank - 2][1]:
            raise ValueError(
                f"query '{query_id}': the score at rank {rank} is higher than the one before it."
            )
    if len({doc_id for doc_id, _ in rows}) < len(rows):
        raise ValueError(f"query '{query_id}' ranks a document twice.")
    # Python compares strings by code points, which is the order of their bytes in UTF-8, as strcmp sees them.
    return sorted(rows, key=lambda row: (row[1], row[0]), reverse=True)


def _single_precision(score: float) -> float:
    """The nearest single-precision number, with the fewest digits that stand for it."""
    try:
        exact: float = struct.unpack("f", struct.pack("f", score))[0]
    except OverflowError:
        return math.inf
    for digits in (6, 7, 8):
        short = float(f"{exact:.{digits}g}")
        if struct.unpack("f", struct.pack("f", short))[0] == exact:
            return short
    return float(f"{exact:.9g}")


def _score(text: str, place: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"{place}: the score '{text}' is not a finite number.")
    return score


def _check_name(name: str, kind: str) -> None:
    if name.split() != [name]:
        raise InputError(
            f"The {kind} '{name}' is empty or holds white space, which the TREC format cannot: change it."
        )


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside `path` that takes its place once it is on the disk, and is deleted on an error."""
    try:
        with atomic_file(Path(os.path.realpath(path))) as file:
            yield file
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from error


def _packed(file: BinaryIO, path: Path) -> AbstractContextManager[BinaryIO]:
    if path.suffix != ".gz":
        return nullcontext(file)
    # Without a name and a time, equal runs are equal files.
    return cast(
        AbstractContextManager[BinaryIO], gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0)
    )
