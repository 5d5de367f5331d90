"""What an index says about itself: `manifest.json`, read strictly, written in a stable order."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from mretrieve.errors import InputError

MANIFEST = "manifest.json"
DOCUMENTS = "documents/documents.arrow"
DENSE = "dense.faiss"
LEXICAL = "lexical"
SEGMENTS = "segments"
DELETED = "deleted.npy"

FORMAT = "mretrieve-index"
FORMAT_VERSION = 3
"""1 had no segments, and no checksum of the manifest itself; 1 and 2 had BM25 by analyzers' terms only.
They are read as they were."""

_NAMES = {int: "whole number", float: "number", str: "string"}


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """What made the vectors; queries must come from the same weights.

    `fingerprint` is a digest of the weights, `dtype` the numbers' type they were computed in.
    """

    model: str
    fingerprint: str
    dim: int
    query_prefix: str = ""
    document_prefix: str = ""
    dtype: str = "fp32"


@dataclass(frozen=True, slots=True)
class DenseEntry:
    """A FAISS factory string, and the parameters it is searched with: `nprobe=32,k_factor_rf=4`."""

    factory: str
    search: str = ""


@dataclass(frozen=True, slots=True)
class LanguageEntry:
    """Documents of one language, and the name of their BM25 analyzer (None without BM25)."""

    documents: int
    analyzer: str | None = None


@dataclass(frozen=True, slots=True)
class RankingEntry:
    """How the index is searched unless a query says otherwise: the fusion, and BM25's parameters.

    `terms` is which terms BM25 goes by in languages that are new to the index; each language that it has
    already names its own (`LanguageEntry.analyzer`).
    """

    fusion: str = "zscore:0.5"
    k1: float = 0.9
    b: float = 0.4
    terms: str = "analyzer"


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """Documents of one segment, deleted ones too."""

    documents: int


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and SHA-256 of one file of the index."""

    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BuiltBy:
    """Versions of the software that built the index, and when (ISO 8601, UTC)."""

    mretrieve: str
    python: str
    faiss: str | None
    at: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """An index in numbers and names.

    `files` are all files but the manifest itself, by their name relative to the index folder;
    `plan` is the digest of the plan that the index was built by. An index that was added to or deleted
    from has `segments`, in the order of their names, each of them an index of its own in its folder below
    `segments/`; `deleted` of their documents are dead, by `deleted.npy`. All counts are of living ones.
    """

    documents: int
    languages: Mapping[str, LanguageEntry]
    encoder: EncoderIdentity | None
    dense: DenseEntry | None
    ranking: RankingEntry
    files: Mapping[str, FileEntry]
    built: BuiltBy
    plan: str
    segments: Mapping[str, SegmentEntry] = field(default_factory=dict)
    deleted: int = 0

    @property
    def n_bytes(self) -> int:
        """Size of all files together."""
        return sum(entry.n_bytes for entry in self.files.values())

    def to_json(self) -> str:
        """The manifest as it stands on the disk."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        body = asdict(self)
        body["languages"] = dict(sorted(body["languages"].items()))
        body["files"] = dict(sorted(body["files"].items()))
        body["segments"] = dict(sorted(body["segments"].items()))
        whole = head | body
        return json.dumps(whole | {"sha256": _digest(whole)}, ensure_ascii=False, indent=1) + "\n"

    @staticmethod
    def parse(text: str | bytes, path: Path) -> "Manifest":
        """Read a manifest's text.

        Args:
            text: JSON as `to_json` writes it.
            path: where it was read, for messages.

        Raises:
            InputError: no manifest, or one of a newer format, or a field is wrong (named).
        """
        data = _decode(text, path)
        if data.pop("format", None) != FORMAT:
            raise _damaged(path, f"cannot be used: format should be {FORMAT!r}")
        version = _value(int, data.pop("format_version", None), path, "format_version")
        if version > FORMAT_VERSION:
            raise InputError(
                f"{path} is of index format {version}, newer than this mretrieve reads ({FORMAT_VERSION}). "
                "Run `pip install -U mretrieve`, or build the index again with this version."
            )
        if version < 1:
            raise _damaged(path, f"cannot be used: format_version should be at least 1, not {version}")
        if version == 1:
            data |= {"segments": {}, "deleted": 0}
        else:
            data.pop("sha256", None)
        if version < 3 and isinstance(data.get("ranking"), dict):
            data["ranking"] = {"terms": "analyzer"} | data["ranking"]
        manifest: Manifest = _value(Manifest, data, path, "")
        for name in manifest.files:
            if not _is_inside(name):
                raise _damaged(path, f"cannot be used: files.{name} is not a name inside the index folder")
        for name in manifest.segments:
            if not (name.isascii() and name.isalnum()):
                raise _damaged(path, f"cannot be used: segments.{name} is not the name of a segment")
        return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`.

    Raises:
        InputError: there is none, or it cannot be read, is of a newer format, or a field is wrong.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    return Manifest.parse(text, path)


def check_manifest(folder: Path) -> None:
    """Compare a manifest with its own SHA-256, which those of format 1 do not have.

    Raises:
        InputError: a value was changed by something else than mretrieve.
    """
    path = folder / MANIFEST
    data = _decode(path.read_bytes(), path)
    if data.get("format_version") != 1 and data.pop("sha256", None) != _digest(data):
        raise _damaged(path, "is damaged: its SHA-256 is not the one that it names")


def is_index(folder: Path) -> bool:
    """Whether a folder holds a manifest that we wrote, of any format version."""
    try:
        data = _decode((folder / MANIFEST).read_bytes(), folder / MANIFEST)
    except (OSError, InputError):
        return False
    return data.get("format") == FORMAT


def listed_files(folder: Path) -> set[str]:
    """Names of the files that a manifest lists, also one of a newer format; empty where it lists none."""
    listed = _decode((folder / MANIFEST).read_bytes(), folder / MANIFEST).get("files")
    return set(listed) if isinstance(listed, dict) else set()


def check_encoder(
    manifest: Manifest, model: str, fingerprint: str, *, path: Path | str = "The index"
) -> None:
    """Make sure that queries come from the weights that encoded the documents.

    Args:
        manifest: of the index to search.
        model: name of the encoder that was asked for.
        fingerprint: digest of its weights.
        path: of the index, for the message.

    Raises:
        InputError: the index was built with other weights, or without any.
    """
    built_with = manifest.encoder
    if built_with is None:
        raise InputError(
            f"{path} has no dense part (it was built with --no-dense): search with --mode bm25, "
            "or build it again without --no-dense."
        )
    if built_with.fingerprint == fingerprint:
        return
    if built_with.model == model:
        raise InputError(
            f"{path} was built with other weights of {model} (fingerprint {built_with.fingerprint[:12]}, "
            f"now {fingerprint[:12]}): put the old weights back, or build the index again with --overwrite."
        )
    raise InputError(
        f"{path} was built with {built_with.model} (fingerprint {built_with.fingerprint[:12]}), but {model} "
        f"({fingerprint[:12]}) was asked for: search with --model {built_with.model}, "
        f"or build the index again with --model {model} --overwrite."
    )


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _decode(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:  # also UnicodeDecodeError
        raise _damaged(path, f"is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise _damaged(path, "should hold a JSON object")
    return data


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path} {what}. Build the index again, or take the file from a copy of it.")


def _value(kind: Any, value: Any, path: Path, where: str) -> Any:
    """Check a JSON value against a type: int, str, `X | None`, a mapping from names, a dataclass."""
    if isinstance(kind, UnionType):
        return None if value is None else _value(get_args(kind)[0], value, path, where)
    if kind in _NAMES:
        fits = (int, float) if kind is float else kind
        if not isinstance(value, fits) or isinstance(value, bool):
            raise _damaged(path, f"cannot be used: {where} should be a {_NAMES[kind]}, not {value!r}")
        if kind is int and value < 0:
            raise _damaged(path, f"cannot be used: {where} should not be negative, but is {value}")
        return value
    if not isinstance(value, dict):
        raise _damaged(path, f"cannot be used: {where} should be an object, not {value!r}")
    if get_origin(kind) is Mapping:
        return {
            name: _value(get_args(kind)[1], entry, path, f"{where}.{name}") for name, entry in value.items()
        }
    kinds = {field.name: field.type for field in fields(kind)}
    dot = f"{where}." if where else ""
    for name in kinds.keys() - value.keys():
        raise _damaged(path, f"cannot be used: {dot}{name} is missing")
    for name in value.keys() - kinds.keys():
        raise _damaged(path, f"cannot be used: {dot}{name} is not a field of this format")
    return kind(**{name: _value(kinds[name], value[name], path, dot + name) for name in kinds})


def _is_inside(name: str) -> bool:
    return bool(name) and not name.startswith("/") and "\\" not in name and ".." not in name.split("/")
