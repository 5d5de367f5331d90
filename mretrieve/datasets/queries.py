"""Read queries (topics) from a file."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from mretrieve.datasets.fields import QUERY_IDS, QUERY_TEXTS, to_query
from mretrieve.datasets.files import BadRecord, read_lines
from mretrieve.datasets.records import ReadFile, Records, read_jsonl, read_table
from mretrieve.datasets.source import find_beir_file, resolve_address
from mretrieve.errors import InputError
from mretrieve.types import Query

_read_table = partial(read_table, fields=(QUERY_IDS, QUERY_TEXTS))
_read_tsv: ReadFile = partial(_read_table, delimiter="\t", default=("id", "text"))
_FORMATS: dict[str, ReadFile] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": partial(_read_table, delimiter=",", default=()),
    ".tsv": _read_tsv,
    ".txt": _read_tsv,
}


_OFFICIAL = re.compile(r"topics\.(?:miracl|mrtydi)-v[\d.]+-([a-z]{2})\b")
"""Names of MIRACL's and Mr. TyDi's files, which tell the language that their lines do not."""


def read_queries(path: str | Path) -> list[Query]:
    """Read queries.

    Args:
        path: a BEIR folder or its `queries.jsonl`; lines of `id<tab>text`, with or without a header; or CSV
            with one. Gzipped or not. `sample` stands for the package's own, and an address such as
            `miracl/sw/dev` for the topics of its split.

    Returns:
        The queries in the order of the file.

    Raises:
        InputError: the file is missing, not readable, of no known format or empty; or a query has no id or
            text, an id used before, or an unknown language; the message tells the file and the line.
    """
    from mretrieve.datasets.collection import at_address  # which is built on this module

    if (collection := at_address(path)) is not None:
        return collection.queries()
    file = _find(resolve_address(path))
    queries: list[Query] = []
    lines: dict[str, int] = {}
    for line, record in _records(file):
        try:
            if isinstance(record, BadRecord):
                raise record
            query = to_query(record)
        except BadRecord as fault:
            raise InputError(f"{file}:{line}: {fault}.") from None
        first = lines.setdefault(query.query_id, line)
        if first != line:
            raise InputError(f"{file}:{line}: the id '{query.query_id}' stands in line {first} already.")
        queries.append(query)
    if not queries:
        raise InputError(f"{file} holds no queries.")
    named = _OFFICIAL.match(file.name)
    return [replace(query, lang=query.lang or named[1]) for query in queries] if named else queries


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    file = find_beir_file(path, "queries")
    if file is None:
        raise InputError(
            f"The folder {path} holds no queries.jsonl or queries.jsonl.gz: give the file of queries."
        )
    return file


def _records(file: Path) -> Records:
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
    if suffix in _FORMATS:
        return _FORMATS[suffix](file)
    # Topics are published under many names; their first line tells which of the two forms they have.
    first = next((line for _, line in read_lines(file) if isinstance(line, BadRecord) or line.strip()), "")
    if isinstance(first, str) and "\t" not in first and not first.lstrip().startswith("{"):
        raise InputError(f"{file} is neither lines of `id<tab>text` nor of JSON objects.")
    return read_jsonl(file) if isinstance(first, str) and first.lstrip().startswith("{") else _read_tsv(file)
