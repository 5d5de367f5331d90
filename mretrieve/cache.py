"""Where downloaded and derived files are kept, and how a folder appears there whole or not at all."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mretrieve.errors import InputError

_STALE_SECONDS = 24 * 3600
"""After which a half-filled folder is that of a process that was killed."""


def cache_folder() -> Path:
    """The user's cache: `$MRETRIEVE_CACHE`, else `mretrieve` under `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        InputError: none of them is set, and the user has no home folder.
    """
    if own := os.environ.get("MRETRIEVE_CACHE"):
        return Path(own).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "mretrieve"
    try:
        return Path.home() / ".cache" / "mretrieve"
    except RuntimeError as error:
        raise InputError(
            "This user has no home folder: set MRETRIEVE_CACHE to a folder for files."
        ) from error


def make_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Make `folder` with `fill` unless it is there already.

    `fill` writes into a temporary neighbour that is renamed when it is complete and on the disk, so two
    processes at once, or one that is killed, never leave a half-filled folder: the first to finish wins.

    Args:
        folder: the folder wanted.
        fill: writes the contents into the empty folder that it is given.

    Returns:
        `folder`, filled.

    Raises:
        InputError: the folder above may not be written, or the disk is full.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _cannot_write(folder.parent, error) from error
    try:
        fill(building)
        _sync(building)
        building.chmod(0o755)
        try:
            building.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _cannot_write(folder.parent, error) from error
        raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _remove_stale(folder: Path) -> None:
    for other in folder.parent.glob(f".{folder.name}-*"):
        with suppress(OSError):  # its maker may be renaming it now
            if time.time() - other.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(other, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Put all files on the disk, lest a power cut leave the folder's new name with empty files in it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def _cannot_write(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"The cache {folder} cannot be written ({error.strerror}): "
        "set MRETRIEVE_CACHE to a folder with room that you may write."
    )
