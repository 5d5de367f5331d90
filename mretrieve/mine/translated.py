"""Write translated records: a file of JSON lines, or a BEIR folder with its judgements."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mretrieve import files
from mretrieve.types import Qrels

REPORT = "translation.json"

Versions = Mapping[str, Mapping[str, str]]
"""id -> language -> id of its version in that language."""


def versioned(identifier: str, lang: str) -> str:
    """The id of a record's version in a language."""
    return f"{identifier}@{lang}"


@contextmanager
def lines_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write lines into, gzipped if its name ends in `.gz`; there only when it is whole."""
    with files.atomic_file(path) as file:
        if path.suffix == ".gz":
            # Without a name and a time, equal records are equal files.
            with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
                yield packed  # type: ignore[misc]  # a GzipFile, which writes as a BinaryIO does
        else:
            yield file


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    with lines_file(path) as file:
        for record in records:
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())


def write_qrels(path: Path, rows: Iterable[tuple[str, str, int]]) -> None:
    """Write judgements with BEIR's header."""
    with files.atomic_file(path) as file:
        file.write(b"query-id\tcorpus-id\tscore\n")
        file.writelines(f"{query_id}\t{doc_id}\t{grade}\n".encode() for query_id, doc_id, grade in rows)


def judgements(
    qrels: Qrels, queries: Versions, documents: Versions, *, across: bool
) -> Iterator[tuple[str, str, int]]:
    """The judgements of originals, told of their versions.

    Args:
        qrels: of the originals.
        queries: the versions of each query; its own id for any language (`""`) where it stays as it is.
        documents: the versions of each document, likewise.
        across: also of versions in two different languages.
    """
    for query_id, judged in qrels.items():
        for doc_id, grade in judged.items():
            for lang, query in queries.get(query_id, {}).items():
                for other, document in documents.get(doc_id, {}).items():
                    if across or lang == other or not (lang and other):
                        yield query, document, grade


def kept(identifiers: Iterable[str]) -> dict[str, dict[str, str]]:
    """`Versions` of records that stay as they are, in whatever language."""
    return {identifier: {"": identifier} for identifier in identifiers}
