"""Leave out documents that stand in a collection more than once, word for word or nearly so.

The collection is read twice: first to find the copies, then to give what stays. Of each document memory
holds some 60 bytes; what is compared lies on the disk. A copy is always left out in favour of an earlier
document that stays, and documents whose data name different languages are never copies of each other.
"""

import hashlib
import json
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.datasets.minhash import Signature, Signatures, signer
from mretrieve.datasets.plain import plain
from mretrieve.datasets.source import Source
from mretrieve.errors import InputError
from mretrieve.types import Document

THRESHOLD = 0.8
"""Jaccard similarity of the runs of five letters from which on two documents are nearly the same."""

OnProgress = Callable[[str, int, int | None], None]
"""Told of a stage's name, how much is done, and of how much (None when unknown)."""

STAGE = "compare"

_DOCUMENTS_AT_ONCE = 1024
_MAX_EXAMPLES = 20
_LAYOUT = 1  # raise when other documents would be left out, so that builds begin afresh


@dataclass(frozen=True, slots=True)
class Dedup:
    """What counts as a copy.

    Attributes:
        kind: `exact` for the same title and text, whatever the white space; `near` also for texts that
            share most runs of five letters.
        threshold: of `near`, the Jaccard similarity from which on.
    """

    kind: str = "exact"
    threshold: float = THRESHOLD

    @classmethod
    def parse(cls, text: str) -> "Dedup":
        """Read `exact`, `near` or `near:0.9`.

        Raises:
            InputError: it is none of these.
        """
        kind, _, number = text.partition(":")
        try:
            threshold = float(number) if number else THRESHOLD
        except ValueError:
            threshold = -1.0
        if kind not in ("exact", "near") or not 0.5 <= threshold <= 1 or (number and kind == "exact"):
            raise InputError(
                f"Unknown --dedup '{text}'. Choose from: exact, near, or near:T with a similarity T from "
                "0.5 to 1."
            )
        return cls(kind, threshold)

    def __str__(self) -> str:
        return self.kind if self.kind == "exact" else f"{self.kind}:{self.threshold:g}"


@dataclass(slots=True)
class Dropped:
    """What was left out: how many of how many, and the first of them as `copy = original`."""

    documents: int = 0
    copies: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.copies:
            return f"no duplicates among {self.documents:,} documents"
        return f"{self.copies:,} of {self.documents:,} documents are duplicates; first: {self.examples[0]}"


@dataclass
class DistinctSource(Source):
    """A collection without its copies; made by `distinct`.

    Attributes:
        inner: the collection with them.
        dedup: what counts as a copy.
        report: file of JSON lines that names each copy, its original and their similarity; None for none.
        work: folder for what is compared; None for the system's own.
        on_progress: told of the documents that are compared.
        dropped: what the last reading left out.
    """

    inner: Source | None = None
    dedup: Dedup = field(default_factory=Dedup)
    report: Path | None = None
    work: Path | None = None
    on_progress: OnProgress | None = None
    dropped: Dropped = field(default_factory=Dropped)

    @property
    def source(self) -> Source:
        """The collection with its copies."""
        assert self.inner is not None
        return self.inner

    def fingerprint(self) -> str:
        """As `Source.fingerprint`, another for another way to find copies."""
        text = f"{self.source.fingerprint()} {self.dedup} {_LAYOUT}"
        return hashlib.sha256(text.encode()).hexdigest()

    def documents(self) -> Iterator[Document]:
        """Read all documents but the copies.

        Yields:
            Documents in the order of the files.

        Raises:
            InputError: as `Source.documents`, or the files changed while they were read.
            MissingDependencyError: `near` was asked for, and datasketch is not installed.
        """
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.work, prefix=".dedup-")))
            found = stack.enter_context(_find_copies(self, work))
            report = stack.enter_context(files.atomic_file(self.report)) if self.report else None
            yield from self._keep(found, report)

    def _keep(self, found: "_Copies", report: BinaryIO | None) -> Iterator[Document]:
        self.dropped = Dropped()
        originals: dict[int, str] = {}  # ids of those that have copies
        wanted = set(np.unique(found.origin[found.origin >= 0]).tolist())
        row = -1
        for row, document in enumerate(self.source.documents()):
            if row >= len(found.origin):
                raise _changed(self.description)
            origin = int(found.origin[row])
            if origin < 0:
                if row in wanted:
                    originals[row] = document.doc_id
                self.dropped.documents += 1
                yield document
                continue
            self._note(document, originals[origin], found.similarity(origin, row), report)
        self.skipped = self.source.skipped
        if row + 1 != len(found.origin):
            raise _changed(self.description)

    def _note(self, copy: Document, original: str, similarity: float, report: BinaryIO | None) -> None:
        self.dropped.documents += 1
        self.dropped.copies += 1
        if len(self.dropped.examples) < _MAX_EXAMPLES:
            self.dropped.examples.append(f"{copy.doc_id} = {original}")
        if report is not None:
            record = {"doc_id": copy.doc_id, "duplicate_of": original, "similarity": round(similarity, 4)}
            report.write(json.dumps(record | {"place": copy.place}, ensure_ascii=False).encode() + b"\n")


def distinct(
    source: Source,
    dedup: Dedup | str = "exact",
    *,
    report: Path | None = None,
    work: Path | None = None,
    on_progress: OnProgress | None = None,
) -> DistinctSource:
    """Leave the copies out of a collection.

    Args:
        source: the collection; nothing of it is read yet.
        dedup: `exact`, `near` or `near:0.9`.
        report: file to write when all was read: a JSON object a line, `doc_id`, `duplicate_of`,
            `similarity` and `place` of each copy.
        work: folder for what is compared: 16 bytes a document, with `near` some 700; by default the
            system's folder for such.
        on_progress: told of the documents that are compared.

    Returns:
        A source of what stays; its `dropped` says what does not.

    Raises:
        InputError: `dedup` is unknown.
        MissingDependencyError: `near` was asked for, and datasketch is not installed.
    """
    dedup = Dedup.parse(dedup) if isinstance(dedup, str) else dedup
    if dedup.kind == "near":
        signer()  # says what is missing before anything is read
    return DistinctSource(
        source.description,
        source.root,
        source.files,
        source.on_error,
        inner=source,
        dedup=dedup,
        report=report,
        work=work,
        on_progress=on_progress,
    )


@dataclass(slots=True)
class _Copies:
    """`origin` (n,) int64: -1 for documents that stay, else the row of the one that stays in their place."""

    origin: NDArray[np.int64]
    exact: NDArray[np.bool_]
    signatures: Signatures | None

    def similarity(self, origin: int, row: int) -> float:
        if self.signatures is None or self.exact[row]:
            return 1.0
        return float(self.signatures.similarity(np.array([origin]), np.array([row]))[0])

    def __enter__(self) -> "_Copies":
        return self

    def __exit__(self, *error: object) -> None:
        if self.signatures is not None:
            self.signatures.close()


def _find_copies(source: DistinctSource, work: Path) -> _Copies:
    dedup = source.dedup
    near = dedup.kind == "near"
    sign = signer() if near else None
    signatures = Signatures(work, threshold=dedup.threshold) if near else None
    block: list[tuple[Signature, int]] = []
    n = 0
    try:
        with open(work / "digests.u64", "wb") as file:
            for n, document in enumerate(source.source.documents(), start=1):
                digest = _digest(document, near=near)
                file.write(digest)
                if signatures is not None and sign is not None:
                    block.append((_signature(sign, document, digest), _language_key(document)))
                if n % _DOCUMENTS_AT_ONCE == 0:
                    _flush(signatures, block)
                    if source.on_progress is not None:
                        source.on_progress(STAGE, n, None)
        _flush(signatures, block)
        if source.on_progress is not None:
            source.on_progress(STAGE, n, n)
        origin = _exact_copies(np.fromfile(work / "digests.u64", np.uint64).reshape(-1, 2))
        exact = origin >= 0
        if signatures is not None:
            signatures.mark(origin)
            _follow(origin, exact)
    except BaseException:
        if signatures is not None:
            signatures.close()
        raise
    return _Copies(origin, exact, signatures)


def _flush(signatures: Signatures | None, block: list[tuple[Signature, int]]) -> None:
    if signatures is not None and block:
        signatures.add([signature for signature, _ in block], [key for _, key in block])
    block.clear()


def _digest(document: Document, *, near: bool) -> bytes:
    """16 bytes that are equal for documents with the same text, written alike or (near) said alike."""
    text = plain(document.contents) if near else ""
    if not text:  # without any letter the signs are all there is to compare
        text = " " + unicodedata.normalize("NFC", " ".join(document.contents.split()))
    return hashlib.blake2b(f"{document.lang}\0{text}".encode(), digest_size=16).digest()


def _signature(sign: Callable[[str], Signature], document: Document, digest: bytes) -> Signature:
    """The MinHash; of a text without letters one that only equal texts have."""
    if plain(document.contents):
        return sign(document.contents)
    return sign(digest.hex())


def _language_key(document: Document) -> int:
    return int.from_bytes(hashlib.blake2b(document.lang.encode(), digest_size=8).digest(), "little")


def _exact_copies(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each of (n, 2) digests the first row with the same one, -1 where that is the row itself."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equal ones stay in the order of rows
    ordered = digests[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = order[np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))]
    origin = np.empty(len(order), np.int64)
    origin[order] = np.where(new, -1, first)
    return origin


def _follow(origin: NDArray[np.int64], exact: NDArray[np.bool_]) -> None:
    """Have copies of a text that is itself nearly a copy name the document that stays."""
    copies = np.flatnonzero(exact)
    further = origin[origin[copies]]
    moved = copies[further >= 0]
    origin[moved] = further[further >= 0]
    exact[moved] = False


def _changed(description: str) -> InputError:
    return InputError(f"{description} was changed while it was read: run the same command again.")
