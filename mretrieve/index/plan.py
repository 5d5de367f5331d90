"""What a build was asked for: a build that was killed resumes only under an equal plan."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mretrieve import files
from mretrieve.index.faiss_gpu import Device
from mretrieve.index.manifest import EncoderIdentity, RankingEntry

PLAN = "plan.json"
NOTES = "notes.json"
FORMAT = "mretrieve-build"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What decides the bytes of an index.

    Attributes:
        source: a fingerprint of the documents' source and of how it is read (chunking, language).
        encoder: what makes the vectors; None for an index without a dense part.
        faiss: "auto", or a FAISS factory string.
        lexical: whether each language gets a BM25 index.
        ranking: how the index is searched by default.
        shard_size: documents per shard and per record batch of the document store.
        device: where FAISS trains. Centroids found on a GPU differ in their last digits; yet a build may
            go on where there is none, so that this alone makes no other plan.
    """

    source: str
    encoder: EncoderIdentity | None
    faiss: str = "auto"
    lexical: bool = True
    ranking: RankingEntry = RankingEntry()
    shard_size: int = 1024
    device: Device = "auto"

    def to_dict(self) -> dict[str, Any]:
        """The plan as it stands in `plan.json`."""
        own = asdict(self)
        del own["device"]
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **own}

    def digest(self) -> str:
        """SHA-256 of the plan, in hexadecimal."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def shares_shards_with(self, other: dict[str, Any]) -> bool:
        """Whether the documents and vectors made under another plan are those of this one."""
        kept = ("format_version", "source", "encoder", "shard_size")
        return all(self.to_dict()[name] == other.get(name) for name in kept)


def write_plan(folder: Path, plan: BuildPlan) -> None:
    """Write `folder/plan.json`."""
    with files.atomic_file(folder / PLAN) as file:
        file.write((json.dumps(plan.to_dict(), ensure_ascii=False, indent=1) + "\n").encode())


def read_plan(folder: Path) -> dict[str, Any] | None:
    """The plan in a folder, or None where there is none of ours."""
    try:
        data = json.loads((folder / PLAN).read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("format") == FORMAT else None


def write_notes(folder: Path, notes: dict[str, Any]) -> None:
    """Keep what whoever builds wants to know when the build goes on; it goes when the build is finished."""
    with files.atomic_file(folder / NOTES) as file:
        file.write(json.dumps(notes, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def read_notes(folder: Path) -> dict[str, Any]:
    """What `write_notes` kept of a build that was stopped; empty where there is nothing."""
    try:
        data = json.loads((folder / NOTES).read_bytes().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def is_build(folder: Path) -> bool:
    """Whether a folder holds a plan that we wrote."""
    return read_plan(folder) is not None
