"""Where the files of a collection are published, and where they may lie on this machine.

A root is a folder of downloads: ours in the cache, which keeps the repositories' names, or one of the user's,
in which clones of the repositories, single folders of them, or loose files are found as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mretrieve.cache import cache_folder
from mretrieve.datasets.catalogue import Repository
from mretrieve.errors import InputError


@dataclass(frozen=True, slots=True)
class Part:
    """Files that belong together: a corpus, or the topics or judgements of a split.

    Attributes:
        repository: where they are published.
        paths: inside the repository, in the order of reading.
        others: other forms of the same, each one file, by their place under a root.
    """

    repository: Repository
    paths: tuple[str, ...]
    others: tuple[str, ...] = ()

    def places(self, root: Path) -> list[Path]:
        """Where the files lie in a root that keeps the repositories' names."""
        return [root / self.repository.name / path for path in self.paths]


def downloads() -> Path:
    """The root in the cache."""
    return cache_folder() / "datasets"


def find(root: Path, part: Part, *, whole: bool) -> tuple[Path, ...]:
    """Find the files of a part under a root.

    Args:
        root: where to look.
        part: what to look for.
        whole: only all of the published files will do; otherwise the first of them are enough, as in a
            smaller copy.

    Returns:
        The files, or nothing.

    Raises:
        InputError: a file in the middle is missing.
    """
    for base in _bases(root, part.repository):
        files = [base / path for path in part.paths]
        there = [file for file in files if file.is_file()]
        if len(there) == len(files):
            return tuple(files)
        if there and not whole:
            missing = next(file for file in files if not file.is_file())
            if there != files[: len(there)]:
                raise InputError(f"There is no file {missing}, but {there[-1].name} after it: fetch it, too.")
            return tuple(there)
    for other in part.others:
        if (file := root / other).is_file():
            return (file,)
    return ()


class MissingFilesError(InputError):
    """Files of a collection are not on this machine."""


def missing(address: str, parts: Iterable[Part], root: Path | None, reason: str = "") -> MissingFilesError:
    """Say what to put where."""
    if root is not None:
        shown = _lacking(parts, root)
        return MissingFilesError(f"{root} lacks files of {address}, which are published as {shown}.")
    why = f" ({reason.rstrip('.')})" if reason else ""
    return MissingFilesError(
        f"{address} is not on this machine{why}. "
        f"Fetch it with `mretrieve download {address}`, or {where_to_put(parts)}"
    )


def where_to_put(parts: Iterable[Part]) -> str:
    """The end of a sentence: which files are lacking in the cache, and where they may be put."""
    return (
        f"put these files into {downloads()}, or into a folder of yours that you name by --root: "
        f"{_lacking(parts, None)}."
    )


def _lacking(parts: Iterable[Part], root: Path | None) -> str:
    lacking = [part for part in parts if not find(root or downloads(), part, whole=root is None)]
    return ", ".join(_name(part) for part in lacking)


def _name(part: Part) -> str:
    """`owner/name/docs-0.jsonl.gz to docs-4.jsonl.gz`."""
    first, last = part.paths[0], part.paths[-1].rpartition("/")[2]
    return f"{part.repository.name}/{first}" + (f" to {last}" if len(part.paths) > 1 else "")


def _bases(root: Path, repository: Repository) -> Sequence[Path]:
    return (root / repository.name, root / repository.name.rpartition("/")[2], root)
