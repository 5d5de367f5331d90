"""Read the records of a file of documents or queries, whatever its format, one after the other."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mretrieve.datasets.files import BadRecord, read_lines
from mretrieve.errors import InputError

Record = Mapping[str, Any]
"""Name of a field -> value."""

Records = Iterator[tuple[int, Record | BadRecord]]
"""Line (for Parquet: row) from 1, and the record that starts there or what is wrong with it."""

_MAX_FIELD_CHARACTERS = 1 << 24  # of a CSV field; an unclosed quote would swallow the whole file
_PARQUET_ROWS = 1024
_decode = json.JSONDecoder().raw_decode


def read_jsonl(path: Path) -> Records:
    """Read one JSON object per line; empty lines are passed over."""
    for number, line in read_lines(path):
        if isinstance(line, BadRecord):
            yield number, line
            continue
        text = line.strip()
        if not text:
            continue
        try:
            value, end = _decode(text)  # json.loads does the same with more checks, in twice the time
        except (ValueError, RecursionError):
            yield number, _broken_json(text)
            continue
        if end != len(text):
            yield number, _broken_json(text)
        elif type(value) is not dict:
            yield number, BadRecord("not an object", f"a JSON object is needed, this line is {_kind(value)}")
        elif "\\u" in text and (fault := _half_character(value)):
            yield number, fault
        else:
            yield number, value


def read_table(
    path: Path, *, delimiter: str, default: Sequence[str], fields: Sequence[Sequence[str]]
) -> Records:
    """Read a table with a header line, or one without a header whose columns are `default`.

    Args:
        path: file, gzipped or not.
        delimiter: "," for CSV with its quotes, tab for values without any quoting.
        default: names of the columns of a file without a header; empty if there has to be one.
        fields: accepted names of each column that is needed; a first line that holds one of each is a header.
    """
    rows = _csv_rows(path) if delimiter == "," else _plain_rows(path, delimiter)
    header: Sequence[str] = ()
    for number, row in rows:
        if isinstance(row, BadRecord):
            yield number, row
            continue
        if not header:
            names = [name.strip().lower() for name in row]
            if all(any(name in names for name in accepted) for accepted in fields):
                header = names
                continue
            if not default:
                raise InputError(f"{path}:{number}: {_no_header(names, fields)}.")
            header = default
        if len(row) != len(header):
            yield number, BadRecord("wrong number of columns", _wrong_width(row, header, header is default))
        else:
            yield number, dict(zip(header, row, strict=True))


def read_parquet(path: Path, *, columns: Sequence[str]) -> Records:
    """Read those of the columns that a Parquet file has, a batch of rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            present = [name for name in file.schema_arrow.names if name in columns]
            if not present:
                names = ", ".join(file.schema_arrow.names)
                raise InputError(f"{path} has none of the columns {', '.join(columns)}, but {names[:200]}.")
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=present):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a text after row {number} is not UTF-8 ({error.reason}).") from None
    except (pa.ArrowException, OSError) as error:
        message = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"{path} is not a whole Parquet file: {message}.") from error


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str] | BadRecord]]:
    lines = _Decoded(path)
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARACTERS))
    reader = csv.reader(lines, strict=True)
    while True:
        start = lines.number + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise InputError(
                f"{path}:{start}: broken CSV ({error}): check the quotes of this record."
            ) from None
        yield from lines.take_faults()
        if row:
            yield start, row
    yield from lines.take_faults()


class _Decoded:
    """Lines of a file as the csv module wants them; those that are not UTF-8 are left out and kept aside."""

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path)
        self._faults: list[tuple[int, list[str] | BadRecord]] = []
        self.number = 0

    def __iter__(self) -> "_Decoded":
        return self

    def __next__(self) -> str:
        for number, line in self._lines:
            self.number = number
            if not isinstance(line, BadRecord):
                return line + "\n"
            self._faults.append((self.number, line))
        raise StopIteration

    def take_faults(self) -> list[tuple[int, list[str] | BadRecord]]:
        faults, self._faults = self._faults, []
        return faults


def _plain_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | BadRecord]]:
    for number, line in read_lines(path):
        if isinstance(line, BadRecord):
            yield number, line
        elif line.strip():
            yield number, line.split(delimiter)


def _broken_json(text: str) -> BadRecord:
    try:
        json.loads(text)
        problem = "unreadable"
    except json.JSONDecodeError as error:
        problem = f"{error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    return BadRecord("broken JSON", f"broken JSON ({problem})")


def _half_character(record: dict[str, Any]) -> BadRecord | None:
    """Find a lone surrogate: JSON can escape it, but it is no text and cannot be stored."""
    for name, value in record.items():
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                escape = f"\\u{ord(value[error.start]):04x}"
                return BadRecord("not UTF-8", f"the field '{name}' holds {escape}, half of a character")
    return None


def _kind(value: object) -> str:
    names: list[tuple[type | tuple[type, ...], str]] = [
        (str, "a string"),
        (bool, "true or false"),
        ((int, float), "a number"),
        (list, "a list"),
    ]
    return next((name for types, name in names if isinstance(value, types)), "null")


def _no_header(names: Sequence[str], fields: Sequence[Sequence[str]]) -> str:
    wanted = " and ".join(f"one of {', '.join(accepted)}" for accepted in fields)
    return f"the first line has to name the columns ({wanted}), but it holds {', '.join(names)[:100]}"


def _wrong_width(row: Sequence[str], header: Sequence[str], without_header: bool) -> str:
    if without_header:
        wanted = "<tab>".join(header)
        return (
            f"{len(row)} columns, but a file without a header holds {wanted}; add a header line to name more"
        )
    return f"{len(row)} columns, but the header names {len(header)}"


ReadFile = Callable[[Path], Records]
