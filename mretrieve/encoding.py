"""Encode a whole collection or a file of queries into one NumPy file, resumably."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import open_source
from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError

TOKENS_PER_TEXT = 16
"""At the least; it only chooses a backend."""

TEXTS_AT_ONCE = 1024
"""Texts that a killed run may have to encode again."""

Texts = Callable[[], Iterable[tuple[str, str]]]
"""(id, text) of each record, as often as wanted."""

OnProgress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What decides the bytes of the file; only under an equal one is work taken up again."""

    source: str
    model: str
    prefix: str
    dtype: str
    n_texts: int
    dim: int

    def header(self) -> bytes:
        """The head of a NumPy file with float32 rows (n_texts, dim)."""
        head = io.BytesIO()
        shape = (self.n_texts, self.dim)
        np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return head.getvalue()


def encode_to_file(
    encoder: Encoder,
    source: str | Path,
    output: Path,
    *,
    queries: bool,
    overwrite: bool = False,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> tuple[int, int]:
    """Write one float32 unit vector per text to `output`, and their ids beside it.

    Vectors grow in `OUT.npy.building`; started again in the same way, the work goes on there.

    Args:
        encoder: the model.
        source: a collection; with `queries` also a file of queries.
        output: file to make; its ids go to the same name with `.ids.txt` for `.npy`.
        queries: encode as queries rather than as documents.
        overwrite: replace `output` and its ids.
        on_progress: called with a stage, how much of it is done, and of how much.

    Returns:
        Number of vectors and their dimension.

    Raises:
        InputError: the source cannot be used, or `output` exists or cannot be written.
    """
    building = output.with_name(output.name + ".building")
    _check_output(output, building, overwrite=overwrite)
    texts, digest = _open(source, queries=queries)
    n_texts = _count(texts(), on_progress)
    plan = _Plan(
        source=digest,
        model=encoder.fingerprint,
        prefix=encoder.query_prefix if queries else encoder.document_prefix,
        dtype=encoder.expect(n_texts * TOKENS_PER_TEXT),
        n_texts=n_texts,
        dim=encoder.dim,
    )
    encode = encoder.encode_queries if queries else encoder.encode_documents
    with files.storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(output):
            _fill(building, texts, plan, encode, on_progress)
            with files.atomic_file(_ids_file(output)) as file:
                file.writelines(f"{number}\n".encode() for number, _ in texts())
            os.replace(building, output)
            _progress_file(building).unlink()
            files.sync_folder(output.parent)
    return plan.n_texts, plan.dim


def _check_output(output: Path, building: Path, *, overwrite: bool) -> None:
    if output.suffix != ".npy":
        raise InputError(f"{output} is to be a NumPy file: give a name that ends in .npy.")
    for file in (output, _ids_file(output)):
        if file.is_dir():
            raise InputError(f"{file} is a folder: choose another name.")
        # The ids of work that was killed in its last moments are there before the vectors are.
        if file.exists() and not overwrite and (file == output or not _progress_file(building).exists()):
            raise InputError(f"{file} exists. Choose another name, or replace it with --overwrite.")


def _open(source: str | Path, *, queries: bool) -> tuple[Texts, str]:
    """The texts, and what tells the source from another."""
    if queries:
        topics = read_queries(source)
        pairs = [(topic.query_id, topic.text) for topic in topics]
        return lambda: pairs, hashlib.sha256(repr(pairs).encode()).hexdigest()
    documents = open_source(source)
    return lambda: ((d.doc_id, d.contents) for d in documents.documents()), documents.fingerprint()


def _count(texts: Iterable[tuple[str, str]], on_progress: OnProgress) -> int:
    """Read all texts once, so that a broken line shows before anything is encoded."""
    n_texts = 0
    for n_texts, (number, _) in enumerate(texts, start=1):
        if "\n" in number or "\r" in number:
            raise InputError(f"The id {number!r} holds a line break, but ids are written one a line.")
        if n_texts % 10_000 == 0:
            on_progress("texts", n_texts, None)
    on_progress("texts", n_texts, n_texts)
    return n_texts


def _fill(
    building: Path,
    texts: Texts,
    plan: _Plan,
    encode: Callable[[list[str]], NDArray[np.float32]],
    on_progress: OnProgress,
) -> None:
    """Append the vectors that are missing; each chunk is on the disk before it counts as done."""
    done = _done(building, plan)
    if done is None:
        _progress_file(building).unlink(missing_ok=True)  # of other work
    header = plan.header()
    with building.open("wb" if done is None else "rb+") as file:
        if done is None:
            file.write(header)
            done = 0
        file.truncate(len(header) + done * 4 * plan.dim)  # of a chunk that was cut off
        file.seek(0, os.SEEK_END)
        on_progress("vectors", done, plan.n_texts)
        for chunk in _chunks(islice(texts(), done, None)):
            file.write(np.ascontiguousarray(encode(chunk), dtype="<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())
            done += len(chunk)
            with files.atomic_file(_progress_file(building)) as progress:
                progress.write(json.dumps({**asdict(plan), "done": done}).encode())
            on_progress("vectors", done, plan.n_texts)


def _chunks(texts: Iterable[tuple[str, str]]) -> Iterator[list[str]]:
    source = iter(texts)
    while chunk := [text for _, text in islice(source, TEXTS_AT_ONCE)]:
        yield chunk


def _ids_file(output: Path) -> Path:
    return output.with_name(output.stem + ".ids.txt")


def _progress_file(building: Path) -> Path:
    return building.with_name(building.name + ".json")


def _done(building: Path, plan: _Plan) -> int | None:
    """Texts that an earlier start of the same work has encoded; None if there was none."""
    try:
        found = json.loads(_progress_file(building).read_bytes())
        n_bytes = building.stat().st_size
    except (OSError, ValueError):
        return None
    done = found.pop("done", None) if isinstance(found, dict) else None
    if not isinstance(done, int) or found != asdict(plan):
        return None
    return done if n_bytes >= len(plan.header()) + done * 4 * plan.dim else None
