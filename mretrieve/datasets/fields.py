"""Turn a record of a file into a document or a query, or say what is wrong with it."""

from collections.abc import Iterator, Sequence
from typing import Any

from mretrieve.datasets.files import BadRecord
from mretrieve.datasets.records import Record, Records
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language
from mretrieve.types import Document, Query

DOCUMENT_IDS = ("_id", "id", "docid", "doc_id")
DOCUMENT_TEXTS = ("text", "contents")
QUERY_IDS = ("_id", "id", "qid", "query_id", "query-id")
QUERY_TEXTS = ("text", "query", "question")
LANGUAGES = ("lang", "language")


def read_documents(records: Records, name: str) -> Iterator[tuple[int, Document | BadRecord]]:
    """Turn records into documents; `name` is what their places call the file."""
    for line, record in records:
        if isinstance(record, BadRecord):
            yield line, record
            continue
        try:
            doc_id, text = _id(record, DOCUMENT_IDS), _text(record, DOCUMENT_TEXTS)
            title = record.get("title") or ""
            if type(title) is not str:
                raise _wrong_type("title", title, "a string")
            # Some published collections hold pages of which only the title is left; they can be found by it.
            if _is_blank(text) and _is_blank(title):
                raise BadRecord("empty text", f"document '{doc_id}' has no text")
            document = Document(doc_id, text, title, _language(record), f"{name}:{line}")
        except BadRecord as fault:
            yield line, fault
        else:
            yield line, document


def to_query(record: Record) -> Query:
    """Turn a record into a query.

    Raises:
        BadRecord: a field is missing, empty or of the wrong type, or the language is unknown.
    """
    query_id, text = _id(record, QUERY_IDS), _text(record, QUERY_TEXTS)
    if _is_blank(text):
        raise BadRecord("empty text", f"query '{query_id}' has no text")
    return Query(query_id, text, _language(record))


def _id(record: Record, names: Sequence[str]) -> str:
    name, value = _first(record, names, "id")
    if type(value) is str:
        if _is_blank(value):
            raise BadRecord("missing id", f"the field '{name}' is empty")
        return value
    if type(value) is int:
        return str(value)
    raise _wrong_type(name, value, "a string or a whole number")


def _text(record: Record, names: Sequence[str]) -> str:
    name, value = _first(record, names, "text")
    if type(value) is str:
        return value
    raise _wrong_type(name, value, "a string")


def _is_blank(text: str) -> bool:
    return not text or text.isspace()  # faster than strip(), which copies


def _first(record: Record, names: Sequence[str], kind: str) -> tuple[str, Any]:
    """The first of the fields that a record has, and its value."""
    for name in names:
        if (value := record.get(name)) is not None:
            return name, value
    found = ", ".join(map(str, record)) or "no fields"
    raise BadRecord(f"missing {kind}", f"no {kind}: looked for {', '.join(names)}, but found {found[:200]}")


def _language(record: Record) -> str:
    for name in LANGUAGES:
        if value := record.get(name):
            if type(value) is not str:
                raise _wrong_type(name, value, "a string")
            try:
                return normalize_language(value)
            except InputError as error:
                raise BadRecord("unknown language", f"{error}".rstrip(".")) from None
    return ""


def _wrong_type(name: str, value: object, wanted: str) -> BadRecord:
    return BadRecord("wrong type", f"the field '{name}' is {value!r:.50}, but {wanted} is needed")
