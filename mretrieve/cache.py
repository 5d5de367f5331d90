"""Where downloaded and derived files are kept, and how a folder appears there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache: `$MRETRIEVE_CACHE`, else `mretrieve` under `$XDG_CACHE_HOME` or `~/.cache`."""
    if own := os.environ.get("MRETRIEVE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mretrieve"


def make_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Make `folder` with `fill` unless it is there already.

    `fill` writes into a temporary neighbour that is renamed when it is complete, so two processes at
    once, or one that is killed, never leave a half-filled folder: the first to finish wins.

    Args:
        folder: the folder wanted.
        fill: writes the contents into the empty folder that it is given.

    Returns:
        `folder`, filled.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fill(building)
        building.chmod(0o755)
        try:
            building.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder
