"""Add to, delete from and compact an index: read, detect languages, encode, and hand over to `index`."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mretrieve.datasets.source import Source, open_source
from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.index.manifest import Manifest, check_encoder
from mretrieve.index.open import open_index
from mretrieve.index.stages import Encode, LexicalOptions, OnProgress
from mretrieve.index.update import Change, Parts, add_documents, compact, delete_documents
from mretrieve.indexing import lexical_options, read_once
from mretrieve.languages import normalize_language


@dataclass(frozen=True, slots=True)
class AddReport:
    """What was added, and what the source made us pass over."""

    change: Change
    source: Source


def add_to_index(
    source: str | Path | Source,
    path: str | Path,
    *,
    model: str | None = None,
    device: str = "auto",
    lang: str = "auto",
    on_error: Literal["stop", "skip"] = "stop",
    on_progress: OnProgress | None = None,
) -> AddReport:
    """Add documents to an index; only they are encoded, with the index's own model.

    A document whose id the index has already takes the old one's place. Called again in the same way, a
    stopped addition goes on. Readers and servers keep the index as it was until the new one is complete.

    Args:
        source: a file or folder of documents, `sample`, an address such as `miracl/sw`, or an open source.
        path: folder of the index.
        model: new place of the index's own model, where it has moved.
        device: `auto`, `cpu` or `cuda`.
        lang: of documents whose data name none; `auto` detects it.
        on_error: `skip` passes over documents that cannot be used and counts them.
        on_progress: called with a stage's name, how much of it is done, and of how much.

    Raises:
        InputError: the source or the index cannot be used, or the model is not the one it was built with.
        MissingDependencyError: FAISS or Lucene is needed and not installed.
    """
    manifest = open_index(Path(path)).manifest
    documents = open_source(source, on_error=on_error)
    code = "" if lang == "auto" else normalize_language(lang)
    change = add_documents(
        read_once(documents, Path(path), lang=code),
        Path(path),
        source=f"{documents.fingerprint()} {on_error} {code}",
        parts=Parts(_encode(path, manifest, model=model, device=device), _lexical(manifest), device),
        on_progress=on_progress,
    )
    return AddReport(change, documents)


def delete_from_index(doc_ids: Collection[str], path: str | Path, *, ignore_missing: bool = False) -> Change:
    """Delete documents by their ids; neither model nor Java is needed.

    Args:
        doc_ids: of the documents.
        path: folder of the index.
        ignore_missing: pass over ids that the index does not hold.

    Raises:
        InputError: the index cannot be used, it does not hold an id, or no document would be left.
    """
    if isinstance(doc_ids, str):
        raise InputError(f"Give ids as a list: ['{doc_ids}'].")
    return delete_documents(doc_ids, Path(path), ignore_missing=ignore_missing)


def compact_index(
    path: str | Path,
    *,
    faiss: str | None = None,
    model: str | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> Manifest:
    """Make one index of what was added and deleted, as if it had been built at once.

    Vectors are not made again, unless the FAISS index keeps them compressed.

    Args:
        path: folder of the index.
        faiss: "auto", or a FAISS factory string; by default that of the index.
        model: as in `add_to_index`.
        device: `auto`, `cpu` or `cuda`.
        on_progress: as in `add_to_index`.

    Raises:
        InputError: the index cannot be used, or its model is needed and cannot be had.
        MissingDependencyError: FAISS or Lucene is needed and not installed.
    """
    manifest = open_index(Path(path)).manifest
    if not manifest.segments:
        return manifest

    @cache
    def encoder() -> Encode | None:
        return _encode(path, manifest, model=model, device=device)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        made = encoder()
        assert made is not None
        return made(texts)

    return compact(
        Path(path),
        factory=faiss or _factory(manifest),
        parts=Parts(None if manifest.dense is None else encode, _lexical(manifest), device),
        on_progress=on_progress,
    )


def read_ids(path: Path) -> list[str]:
    """Read ids, one a line, in UTF-8; empty lines are passed over.

    Raises:
        InputError: the file cannot be read, or holds no id.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read ids from {path}: {error}. Give UTF-8 text, one id a line.") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise InputError(f"{path} holds no ids: write one a line.")
    return ids


def _factory(manifest: Manifest) -> str:
    """`auto` or `small` where the index has what that chose for its size: a larger one gets another."""
    if manifest.dense is None or manifest.encoder is None:
        return "auto"
    from mretrieve.index.faiss import NAMED

    n_documents, dim = next(iter(manifest.segments.values())).documents, manifest.encoder.dim
    factory = manifest.dense.factory
    return next((name for name, choose in NAMED.items() if choose(n_documents, dim) == factory), factory)


def _lexical(manifest: Manifest) -> LexicalOptions | None:
    known = {lang: entry.analyzer for lang, entry in manifest.languages.items() if entry.analyzer is not None}
    if not known:
        return None
    return lexical_options(manifest.ranking.terms, has_vectors=manifest.dense is not None, known=known)


def _encode(path: str | Path, manifest: Manifest, *, model: str | None, device: str) -> Encode | None:
    """What makes vectors as those of the index were made; None where it has none.

    Raises:
        InputError: the index's model cannot be had, or the one that was named has other weights.
    """
    identity = manifest.encoder
    if identity is None:
        if model is not None:
            check_encoder(manifest, model, "", path=path)
        return None
    encoder = Encoder.of_index(identity, model=model, device=device, dtype=identity.dtype)
    check_encoder(manifest, encoder.name, encoder.fingerprint, path=path)
    return encoder.encode_documents
