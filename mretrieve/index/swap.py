"""Put a finished index in its place in one act, and delete only folders that we wrote.

While `my-index` is built, the new one stands in `my-index.building`. Where the system can exchange two
names at once (Linux) the old index is never away; elsewhere it is moved to `my-index.replaced` for a moment,
and `recover` puts it back if the builder was killed in that moment.
"""

import ctypes
import errno
import os
from pathlib import Path

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.index.manifest import MANIFEST, is_index, listed_files
from mretrieve.index.plan import PLAN, is_build

DISCARDED = "discarded"
"""An empty file that marks an index as replaced, before and while it is deleted."""

_NOREPLACE, _EXCHANGE = 1, 2  # flags of Linux's renameat2
_AT_FDCWD = -100
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
_NOT_LISTED = {MANIFEST, PLAN, DISCARDED, "write.lock", ".DS_Store"}


def plain_name(path: Path) -> Path:
    """The folder itself where a path is a link to it, or has no name of its own, as `.` or `a/..`."""
    plain = path.name not in ("", "..") and not path.is_symlink()
    return path if plain else path.resolve()


def building_folder(target: Path) -> Path:
    """Where an index is built before it takes its place."""
    return target.with_name(target.name + ".building")


def check_target(target: Path, *, overwrite: bool) -> None:
    """Make sure that an index may be put at `target`.

    Raises:
        InputError: something is there, and it is not ours to replace or `overwrite` is false.
    """
    if not os.path.lexists(target):
        return
    if not is_index(target):
        raise InputError(
            f"{target} exists and is not an index of mretrieve, so it will not be replaced. "
            "Choose another name, or move it away."
        )
    if not overwrite:
        raise InputError(f"{target} exists. Add --overwrite to replace it, or choose another name.")
    _refuse_foreign_files(target)


def place(building: Path, target: Path, *, overwrite: bool) -> None:
    """Move a finished index into its place in one act, and delete the one that it replaces.

    Args:
        building: the new index, with everything on the disk.
        target: its place; another index may stand there when `overwrite` is true.
        overwrite: whether to replace it.

    Raises:
        InputError: something that may not be replaced stands at `target`.
    """
    check_target(target, overwrite=overwrite)
    if not os.path.lexists(target):
        if not _renameat2(building, target, _NOREPLACE):
            os.rename(building, target)
        files.sync_folder(target.parent)
        return
    replaced = _replaced_folder(target)
    if os.path.lexists(replaced):
        raise InputError(f"{replaced} is in the way: move it away, and run the same command again.")
    (target / DISCARDED).touch()  # so that nobody takes it for a new one once it stands under `building`
    files.sync_folder(target)
    if _renameat2(building, target, _EXCHANGE):
        os.rename(building, replaced)
    else:
        os.rename(target, replaced)
        os.rename(building, target)
    files.sync_folder(target.parent)
    discard(replaced)


def recover(target: Path) -> bool:
    """End what a killed `place` left half-done: put the old index back, or delete it if it was replaced.

    Only the holder of the lock may call this.

    Returns:
        Whether an index that had been replaced was deleted: the last build had done its last act.
    """
    replaced = _replaced_folder(target)
    if os.path.lexists(target):
        leftovers = [folder for folder in (building_folder(target), replaced) if is_discarded(folder)]
        if replaced.is_dir() and not os.listdir(replaced):
            leftovers.append(replaced)  # nothing but its own name was still to go
        for folder in leftovers:
            discard(folder)
        return bool(leftovers)
    if needs_recovery(target):
        os.rename(replaced, target)
        (target / DISCARDED).unlink()
        files.sync_folder(target.parent)
    return False


def needs_recovery(target: Path) -> bool:
    """Whether `target` is away because a builder was killed between its two renames."""
    replaced = _replaced_folder(target)
    return not os.path.lexists(target) and is_index(replaced) and is_discarded(replaced)


def discard(folder: Path) -> None:
    """Delete an index or a build of ours, such that a kill at any moment leaves it known as discarded."""
    (folder / DISCARDED).touch()
    files.sync_folder(folder)
    last = [PLAN, MANIFEST, DISCARDED]  # while one of these is there, the folder is known as ours
    for entry in sorted(folder.iterdir()):
        if entry.name not in last:
            files.remove(entry)
    for name in last:
        files.remove(folder / name)
    folder.rmdir()
    files.sync_folder(folder.parent)


def is_discarded(folder: Path) -> bool:
    """Whether a folder is one of ours whose deletion was begun."""
    return (folder / DISCARDED).is_file() and (
        is_index(folder) or is_build(folder) or os.listdir(folder) == [DISCARDED]
    )


def _replaced_folder(target: Path) -> Path:
    return target.with_name(target.name + ".replaced")


def _refuse_foreign_files(target: Path) -> None:
    """Deleting an index deletes its folder: what we did not write there must not go with it."""
    listed = listed_files(target)
    for name in files.files_below(target):
        if name not in listed and Path(name).name not in _NOT_LISTED:
            raise InputError(
                f"{target} holds {name}, which is no part of the index, so it will not be replaced. "
                "Move that file away, or choose another name."
            )


def _renameat2(old: Path, new: Path, flags: int) -> bool:
    """Linux's rename with flags; false where the system or the file system has none."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(old), None, str(new))
