"""Open a collection by its address, whatever form it has, and read it document by document."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from mretrieve.datasets.fields import DOCUMENT_IDS, DOCUMENT_TEXTS, LANGUAGES, read_documents
from mretrieve.datasets.files import BadRecord
from mretrieve.datasets.folder import TEXT_FILES, list_text_files, read_text_file
from mretrieve.datasets.records import ReadFile, read_jsonl, read_parquet, read_table
from mretrieve.errors import InputError
from mretrieve.types import Document

SAMPLE = Path(__file__).resolve().parent / "sample"
"""The package's own multilingual collection, a BEIR folder; its address is `sample`."""

KNOWN_FORMATS = (
    "a BEIR folder (with corpus.jsonl or corpus.jsonl.gz), a .jsonl, .tsv or .csv file (gzipped or not), "
    "a .parquet file, or a folder of .txt and .md files"
)

OnError = Literal["stop", "skip"]

_MAX_EXAMPLES = 20
_FILE_BITS = 40  # of a place kept as one integer: the file above, the line below

_read_table = partial(read_table, fields=(DOCUMENT_IDS, DOCUMENT_TEXTS))
_RECORD_FORMATS: dict[str, ReadFile] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".tsv": partial(_read_table, delimiter="\t", default=("id", "text")),
    ".csv": partial(_read_table, delimiter=",", default=()),
    ".parquet": partial(read_parquet, columns=(*DOCUMENT_IDS, *DOCUMENT_TEXTS, "title", *LANGUAGES)),
}


@dataclass
class Skipped:
    """What was passed over: how often for which reason, and the first places with what was wrong there."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of records passed over."""
        return self.counts.total()

    def add(self, reason: str, example: str) -> None:
        """Count one record; `example` is its place and what was wrong with it."""
        self.counts[reason] += 1
        if len(self.examples) < _MAX_EXAMPLES:
            self.examples.append(example)

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.counts.most_common())
        return (
            f"{self.total:,} skipped ({reasons}); first: {self.examples[0]}" if self.total else "none skipped"
        )


@dataclass
class Source:
    """A collection that can be read again and again.

    Attributes:
        description: address as it was given.
        root: folder or file; places are told relative to it.
        files: what is read, in this order.
        on_error: "stop" at the first document that cannot be used, or "skip" and count it.
        skipped: what the last reading passed over.
    """

    description: str
    root: Path
    files: tuple[Path, ...]
    on_error: OnError = "stop"
    skipped: Skipped = field(default_factory=Skipped)

    @property
    def n_bytes(self) -> int:
        """Size of all files as they lie on the disk."""
        return sum(path.stat().st_size for path in self.files)

    def fingerprint(self) -> str:
        """Digest of which files are read, their sizes and times of change.

        Returns:
            64 hexadecimal digits, the same as long as nothing was changed, so that a build that was cut off
            may be taken up again.
        """
        digest = hashlib.sha256()
        for path in self.files:
            status = path.stat()
            digest.update(
                f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape")
            )
        return digest.hexdigest()

    def documents(self) -> Iterator[Document]:
        """Read all documents; in memory are only their ids and a block of the file.

        Yields:
            Documents in the order of the files. `place` names the file and the line: `corpus.jsonl:17`.

        Raises:
            InputError: there are no documents, a file cannot be read, or (unless `on_error` is "skip")
                a document cannot be used; the message tells the file and the line.
        """
        self.skipped = Skipped()
        places: dict[str, int] = {}  # id -> file and line as one integer: a third of the memory of a tuple
        for number, path in enumerate(self.files):
            for line, document in _read_file(path, self._name(path)):
                if isinstance(document, BadRecord):
                    self._reject(path, line, document)
                    continue
                place = number << _FILE_BITS | line
                first = places.setdefault(document.doc_id, place)
                if first != place:
                    self._reject(path, line, self._duplicate(document, first))
                    continue
                yield document
        if not places:
            reason = f" that can be used: {self.skipped}" if self.skipped.total else ""
            raise InputError(f"{self.description} holds no documents{reason}.")

    def _reject(self, path: Path, line: int, fault: BadRecord) -> None:
        message = f"{path}:{line}: {fault}"
        if self.on_error == "stop":
            raise InputError(f"{message}. Mend it, or pass over such records with `--on-error skip`.")
        self.skipped.add(fault.reason, message)

    def _duplicate(self, document: Document, first: int) -> BadRecord:
        path, line = self.files[first >> _FILE_BITS], first & ((1 << _FILE_BITS) - 1)
        return BadRecord("duplicate id", f"the id '{document.doc_id}' stands at {path}:{line} already")

    def _name(self, path: Path) -> str:
        return path.name if path == self.root else path.relative_to(self.root).as_posix()


def open_source(address: "str | Path | Source", *, on_error: OnError = "stop") -> Source:
    """Find a collection.

    Args:
        address: `sample`, the path of a file or folder in one of `KNOWN_FORMATS`, an address of
            `mretrieve.datasets.address` that is on this machine, or a source, which is given back. A folder
            of several `.jsonl`, `.tsv`, `.csv` or `.parquet` files is read as one collection.
        on_error: what to do about a document that cannot be used: "stop" with an error, or "skip" and count.

    Returns:
        The source; nothing of it has been read yet.

    Raises:
        InputError: the path does not exist, is empty, may not be read, or has no known format.
        ValueError: `on_error` is neither "stop" nor "skip".
    """
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error must be 'stop' or 'skip', got {on_error!r}.")
    if isinstance(address, Source):
        return address
    from mretrieve.datasets.collection import at_address  # which is built on this module

    if (collection := at_address(address)) is not None:
        return collection.source(on_error=on_error)
    root = resolve_address(address, hint=f" Give {KNOWN_FORMATS}, or `sample`.")
    files = _list_files(root) if root.is_dir() else [root]
    for path in files:
        if _format(path) is None:
            raise InputError(f"{path} has no known format. Give {KNOWN_FORMATS}.")
        if not os.access(path, os.R_OK):
            raise InputError(f"{path} may not be read by this user: change its permissions.")
    if not any(path.stat().st_size for path in files):
        raise InputError(f"{address} is empty: there are no documents in it.")
    return Source(str(address), root, tuple(files), on_error)


def resolve_address(address: str | Path, *, hint: str = "") -> Path:
    """Give the file or folder that an address means.

    Raises:
        InputError: there is none; the message ends with the hint.
    """
    path = SAMPLE if str(address) == "sample" else Path(address).expanduser()
    try:
        path.stat()
    except PermissionError:
        raise InputError(
            f"{path} may not be read by this user: change the permissions of its folder."
        ) from None
    except OSError:
        raise InputError(f"There is no file or folder {path}.{hint}") from None
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is neither a file nor a folder.")
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        raise InputError(f"{path} may not be read by this user: change its permissions.")
    return path


def find_beir_file(folder: Path, stem: str) -> Path | None:
    """The file `stem.jsonl` or `stem.jsonl.gz` of a BEIR folder, if it is there."""
    return next(
        (path for name in (".jsonl", ".jsonl.gz") if (path := folder / f"{stem}{name}").is_file()), None
    )


def _list_files(folder: Path) -> list[Path]:
    corpus = find_beir_file(folder, "corpus")
    if corpus:
        return [corpus]
    texts = list_text_files(folder)
    tables = sorted(
        (path for path in folder.iterdir() if path.is_file() and _suffix(path) in _RECORD_FORMATS),
        key=lambda path: _in_natural_order(path.name),
    )
    # A data set as hubs give it: numbered files of records and a page about them.
    if tables and all(path.stem.upper() in ("README", "LICENSE", "NOTICE", "CHANGELOG") for path in texts):
        return tables
    if not texts:
        raise InputError(f"The folder {folder} holds nothing that can be read. Give {KNOWN_FORMATS}.")
    return texts


def _in_natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key that puts docs-2 before docs-10."""
    return [(int(digits or 0), other) for digits, other in re.findall(r"(\d*)(\D*)", name)]


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _format(path: Path) -> str | None:
    suffix = _suffix(path)
    if suffix in TEXT_FILES and not path.name.lower().endswith(".gz"):
        return "text"
    return "records" if suffix in _RECORD_FORMATS else None


def _read_file(path: Path, name: str) -> Iterable[tuple[int, Document | BadRecord]]:
    if _format(path) == "text":
        return read_text_file(path, name)
    return read_documents(_RECORD_FORMATS[_suffix(path)](path), name)
