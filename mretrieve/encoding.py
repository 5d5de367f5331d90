"""Encode a whole collection or a file of queries into one NumPy file, resumably."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import open_source
from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.index import files

TEXTS_AT_ONCE = 1024
"""Texts that a killed run may have to encode again."""


def encode_to_file(
    encoder: Encoder,
    source: str | Path,
    output: Path,
    *,
    queries: bool,
    overwrite: bool = False,
    on_progress: Callable[[str, int, int | None], None] = lambda stage, done, total: None,
) -> tuple[int, int]:
    """Write one float32 unit vector per text to `output`, and their ids beside it.

    Vectors grow in `OUT.npy.building`; started again in the same way, the work goes on there.

    Args:
        encoder: the model.
        source: a collection; with `queries` also a file of queries.
        output: file to make; its ids go to the same name with `.ids.txt` for `.npy`.
        queries: encode as queries rather than as documents.
        overwrite: replace `output`.
        on_progress: called with a stage, how much of it is done, and of how much.

    Returns:
        Number of vectors and their dimension.

    Raises:
        InputError: the source cannot be used, or `output` exists or cannot be written.
    """
    if output.suffix != ".npy":
        raise InputError(f"{output} is to be a NumPy file: give a name that ends in .npy.")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists. Choose another name, or replace it with --overwrite.")
    texts, digest = _open(source, queries=queries)
    n_texts = 0
    for n_texts, _ in enumerate(texts(), start=1):
        if n_texts % 10_000 == 0:
            on_progress("texts", n_texts, None)
    on_progress("texts", n_texts, n_texts)
    plan = {
        "source": digest,
        "model": encoder.fingerprint,
        "prefix": encoder.query_prefix if queries else encoder.document_prefix,
        "dtype": encoder.dtype,
        "shape": [n_texts, encoder.dim],
    }
    with files.storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(output):
            building = output.with_name(output.name + ".building")
            _fill(building, encoder, texts, plan, queries=queries, on_progress=on_progress)
            ids = "".join(f"{number}\n" for number, _ in texts())
            with files.atomic_file(output.with_name(output.stem + ".ids.txt")) as file:
                file.write(ids.encode())
            building.rename(output)
            _progress_file(building).unlink()
            files.sync_folder(output.parent)
    return n_texts, encoder.dim


def _open(source: str | Path, *, queries: bool) -> tuple[Callable[[], Iterable[tuple[str, str]]], str]:
    """(id, text) of each record, as often as wanted, and what tells the source from another."""
    if queries:
        topics = read_queries(source)
        pairs = [(topic.query_id, topic.text) for topic in topics]
        return lambda: pairs, hashlib.sha256(repr(pairs).encode()).hexdigest()
    documents = open_source(source)
    return lambda: ((d.doc_id, d.contents) for d in documents.documents()), documents.fingerprint()


def _fill(
    building: Path,
    encoder: Encoder,
    texts: Callable[[], Iterable[tuple[str, str]]],
    plan: dict[str, Any],
    *,
    queries: bool,
    on_progress: Callable[[str, int, int | None], None],
) -> None:
    n_texts, dim = plan["shape"]
    progress_file = _progress_file(building)
    done = _done(building, plan)
    vectors = np.lib.format.open_memmap(
        building, "r+" if done is not None else "w+", np.float32, (n_texts, dim)
    )
    encode = encoder.encode_queries if queries else encoder.encode_documents
    start = done or 0
    for chunk in _chunks(islice(texts(), start, None)):
        vectors[start : start + len(chunk)] = encode(chunk)
        start += len(chunk)
        vectors.flush()
        with files.atomic_file(progress_file) as file:
            file.write(json.dumps({**plan, "done": start}).encode())
        on_progress("vectors", start, n_texts)


def _chunks(texts: Iterable[tuple[str, str]]) -> Iterator[list[str]]:
    source = iter(texts)
    while chunk := [text for _, text in islice(source, TEXTS_AT_ONCE)]:
        yield chunk


def _progress_file(building: Path) -> Path:
    return building.with_name(building.name + ".json")


def _done(building: Path, plan: dict[str, Any]) -> int | None:
    """Texts that an earlier start of the same work has encoded; None if there was none."""
    try:
        found = json.loads(_progress_file(building).read_bytes())
    except (OSError, ValueError):
        return None
    done = found.pop("done", None)
    return done if found == plan and building.exists() and isinstance(done, int) else None
