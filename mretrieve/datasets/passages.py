"""Read the corpora of benchmarks as a stream: tens of millions of passages, none of them kept.

`Source` remembers every id, to say where one stands twice; for 33 million passages that is several
gigabytes. Here an id leaves 8 bytes, and duplicates are looked for at the end.
"""

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mretrieve.datasets.fields import DOCUMENT_IDS, DOCUMENT_TEXTS, LANGUAGES, read_documents
from mretrieve.datasets.files import BadRecord, readable
from mretrieve.datasets.records import read_jsonl, read_parquet
from mretrieve.datasets.source import Skipped, Source
from mretrieve.errors import InputError
from mretrieve.types import Document

Numbered = Iterator[tuple[int, Document | BadRecord]]
"""Line (of Parquet: row) from 1, and the document there or what is wrong with it."""

_BLOCK_BYTES = 1 << 20
_decode = json.JSONDecoder().raw_decode


@dataclass
class CorpusSource(Source):
    """A corpus of JSON lines or Parquet in constant memory, but for 8 bytes an id.

    Attributes:
        lang: given to documents that name no language, ISO 639-1; empty to leave that open.
    """

    lang: str = ""

    def documents(self) -> Iterator[Document]:
        """Read all documents, as `Source.documents` does, but find a repeated id only at the end.

        Raises:
            InputError: there are no documents, an id stands twice, a file cannot be read, or (unless
                `on_error` is "skip") a document cannot be used.
        """
        self.skipped = Skipped()
        seen = array("q")
        note = seen.append
        for path in self.files:
            for line, document in self._read(path):
                if isinstance(document, BadRecord):
                    self._reject(path, line, document)
                    continue
                note(hash(document.doc_id))
                yield document
        if not seen:
            reason = f" that can be used: {self.skipped}" if self.skipped.total else ""
            raise InputError(f"{self.description} holds no documents{reason}.")
        if twice := _repeated(seen):
            self._name_repeated(twice)

    def _read(self, path: Path) -> Numbered:
        name = self._name(path)
        if path.suffix == ".parquet":
            columns = (*DOCUMENT_IDS, *DOCUMENT_TEXTS, "title", *LANGUAGES)
            return in_language(read_documents(read_parquet(path, columns=columns), name), self.lang)
        return read_passages(path, name, self.lang)

    def _name_repeated(self, hashes: set[int]) -> None:
        """Read again to say where an id is repeated, or find that only its hash was."""
        places: dict[str, str] = {}
        for path in self.files:
            for line, document in self._read(path):
                if isinstance(document, BadRecord) or hash(document.doc_id) not in hashes:
                    continue
                place = f"{path}:{line}"
                first = places.setdefault(document.doc_id, place)
                if first != place:
                    raise InputError(
                        f"{place}: the id '{document.doc_id}' stands at {first} already. Mend it: each "
                        "passage needs an id of its own."
                    )


def read_passages(path: Path, name: str, lang: str = "") -> Numbered:
    """Read a file of one JSON object per line.

    Objects of the official form, `docid`, `title` and `text`, are taken as they come. The first of any other
    form sends the rest of the file the general way, which knows other names, and says what is wrong.

    Args:
        path: gzipped or not.
        name: how places call the file.
        lang: given to documents that name no language.

    Raises:
        InputError: the file is missing, or cut off or damaged; it is named.
    """
    prefix = f"{name}:"
    for number, line in enumerate(_lines(path), start=1):
        try:
            text = line.decode()
            record, end = _decode(text)
            doc_id, title, body = record["docid"], record["title"], record["text"]
            if "\\ud" in text or "\\uD" in text:
                (doc_id + title + body).encode()  # half a character can be escaped, but is no text
        except (ValueError, KeyError, TypeError, RecursionError):
            break
        plain = type(doc_id) is type(title) is type(body) is str and len(record) == 3
        if not (plain and doc_id.strip() and body.strip() and end >= len(text) - 1):
            break
        yield number, Document(doc_id, body, title, lang, prefix + str(number))
    else:
        return
    for place, document in in_language(read_documents(read_jsonl(path), name), lang):
        if place >= number:
            yield place, document


def in_language(documents: Iterable[tuple[int, Document | BadRecord]], lang: str) -> Numbered:
    """Give a language to the documents that name none."""
    for line, document in documents:
        if lang and isinstance(document, Document) and not document.lang:
            yield line, replace(document, lang=lang)
        else:
            yield line, document


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file by way of large blocks, twice as fast as its own iteration."""
    with readable(path) as file:
        rest = b""
        while block := file.read(_BLOCK_BYTES):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            yield from lines
        if rest:
            yield rest


def _repeated(hashes: "array[int]") -> set[int]:
    """Those that occur more than once; sorts in place."""
    values = np.frombuffer(hashes, dtype=np.int64)
    values.sort()
    return set(values[1:][values[1:] == values[:-1]].tolist())
