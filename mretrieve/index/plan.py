"""What a build was asked for: a build that was killed resumes only under an equal plan."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mretrieve import files
from mretrieve.index.manifest import EncoderIdentity, RankingEntry

PLAN = "plan.json"
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
    """

    source: str
    encoder: EncoderIdentity | None
    faiss: str = "auto"
    lexical: bool = True
    ranking: RankingEntry = RankingEntry()
    shard_size: int = 1024

    def to_dict(self) -> dict[str, Any]:
        """The plan as it stands in `plan.json`."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}

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


def is_build(folder: Path) -> bool:
    """Whether a folder holds a plan that we wrote."""
    return read_plan(folder) is not None
