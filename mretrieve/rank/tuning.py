"""Fusion weights learned by language, as they stand in an index: `tuning.json`, known to its manifest."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.index.manifest import MANIFEST, FileEntry, Manifest, read_manifest
from mretrieve.rank.fusion import Fusion

TUNING = "tuning.json"

_FORMAT = "mretrieve-tuning"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class TunedLanguage:
    """What was learned for the queries of one language.

    Attributes:
        fusion: how its legs are joined, in the words of `Fusion.parse`.
        queries: judged queries that it was learned from.
        dense: value of the dense leg alone on them.
        bm25: value of the BM25 leg alone.
        before: value of the index's own fusion.
        after: value of `fusion`.
    """

    fusion: str
    queries: int
    dense: float
    bm25: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was learned for an index.

    Attributes:
        measure: by which values were measured.
        languages: query language -> what was learned for it.
    """

    measure: str
    languages: Mapping[str, TunedLanguage]

    def fusions(self) -> dict[str, Fusion]:
        """Query language -> how its legs are joined."""
        return {lang: Fusion.parse(entry.fusion) for lang, entry in self.languages.items()}

    def to_dict(self) -> dict[str, object]:
        """All of it as a plain dictionary, for JSON."""
        return {"measure": self.measure, "languages": {k: asdict(v) for k, v in self.languages.items()}}


def read_tuning(index: Path, manifest: Manifest) -> Tuning | None:
    """Read what was learned for an index; None if nothing was.

    Args:
        index: its folder.
        manifest: of that index.

    Raises:
        InputError: the file cannot be used.
    """
    if TUNING not in manifest.files:
        return None
    path = index / TUNING
    try:
        data = json.loads(path.read_bytes())
        if (data["format"], data["format_version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"format is {data['format']!r} {data['format_version']!r}")
        tuning = Tuning(data["measure"], {k: _entry(v) for k, v in data["languages"].items()})
        tuning.fusions()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be used ({error!r}). Run `mretrieve tune` again.") from error
    return tuning


def write_tuning(index: Path, tuning: Tuning | None) -> None:
    """Put what was learned into an index, in place of what was learned before; None takes that away.

    Raises:
        InputError: the index cannot be written, or another process is building it.
    """
    path = index / TUNING
    with files.storage_errors(index), files.locked(index):
        manifest = read_manifest(index)
        kept = {name: entry for name, entry in manifest.files.items() if name != TUNING}
        if tuning is not None:
            head = {"format": _FORMAT, "format_version": _VERSION}
            content = json.dumps(head | tuning.to_dict(), ensure_ascii=False, indent=1) + "\n"
            # The manifest lets go of the old file before it is replaced: a kill leaves an index that opens.
            if TUNING in manifest.files:
                _write_manifest(index, replace(manifest, files=kept))
            with files.atomic_file(path) as file:
                file.write(content.encode())
            kept = kept | {TUNING: FileEntry(path.stat().st_size, files.sha256_of(path))}
        _write_manifest(index, replace(manifest, files=kept))
        if tuning is None:
            path.unlink(missing_ok=True)


def _write_manifest(index: Path, manifest: Manifest) -> None:
    with files.atomic_file(index / MANIFEST) as file:
        file.write(manifest.to_json().encode())


def _entry(data: dict[str, Any]) -> TunedLanguage:
    return TunedLanguage(**data)
