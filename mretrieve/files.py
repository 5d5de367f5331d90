"""Write files and folders so that a kill at any moment leaves either the old or the new."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mretrieve.errors import InputError

PARTIAL = ".partial"
"""Ends the name of a file or folder that is still being written."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.EINVAL,
}


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when it is whole and on the disk.

    Args:
        path: where the file will stand; its folder exists.

    Yields:
        The file, open for writing under a temporary name, which is removed on an error.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            partial.unlink(missing_ok=True)
        raise
    os.replace(partial, path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and put its name on the disk; one that exists already is kept as it is."""
    if not path.is_dir():
        path.mkdir()
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk (files' contents are synced by who wrote them)."""
    if os.name == "nt":  # pragma: no cover - a folder cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Put all files below a folder on the disk, then the names of all its folders."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            with open(Path(folder, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(folder))


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds; a name that does not exist is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> list[str]:
    """Names of all files below a folder, relative to it, with `/`, sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def lock_file(target: Path) -> Path:
    """The file that is locked while `target` is built."""
    return target.with_name(f".{target.name}.lock")


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the right to build `target`, given to one process at a time.

    Raises:
        InputError: another process holds it.
    """
    if os.name == "nt":  # pragma: no cover - no flock there: two builds at once are not guarded
        yield
        return
    path = lock_file(target)
    descriptor = _lock(path, target)
    try:
        yield
    finally:
        with suppress(OSError):  # removed while held, so that nobody locks a name that is about to go
            path.unlink()
        os.close(descriptor)


def _lock(path: Path, target: Path) -> int:
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise InputError(
                f"Another process is building {target} now. Wait until it has finished, "
                "or choose another name."
            ) from None
        except FileNotFoundError:
            pass  # its last holder removed the file between our open and our lock: take the new one
        os.close(descriptor)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full disk and a folder that cannot be written into one sentence each.

    Args:
        path: what was being written, for the message.

    Raises:
        InputError: the disk is full, or the folder may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise InputError(_no_room(path)) from error
        if error.errno in _NOT_ALLOWED and _is_about(path, error.filename):
            raise InputError(
                f"Cannot write {error.filename}: {error.strerror}. "
                "Choose a folder that you may write, or another name."
            ) from error
        raise
    except Exception as error:  # Arrow, FAISS and Lucene tell of a full disk in the text of their own errors
        if not isinstance(error, InputError) and os.strerror(errno.ENOSPC) in str(error):
            raise InputError(_no_room(path)) from error
        raise


def _is_about(path: Path, filename: str | bytes | None) -> bool:
    """Whether an error is about `path`, what we write beside it, or the folders above it."""
    if not isinstance(filename, str):
        return False
    mine, failed = Path(os.path.abspath(path)), os.path.abspath(filename)
    return failed.startswith((str(mine), str(lock_file(mine)))) or Path(failed) in mine.parents


def _no_room(path: Path) -> str:
    return (
        f"No space left for {path} (the disk is full, or a quota or limit was met). Free some space and "
        "run the same command again: it goes on where it stopped."
    )


def refuse_used_folder(out: Path) -> None:
    """Raise InputError unless `out` is a free name or an empty folder."""
    if out.is_symlink() or (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out} exists already: give a new folder, or remove it first.")


@contextmanager
def new_folder(out: Path, *, check: Callable[[Path], None] = refuse_used_folder) -> Iterator[Path]:
    """A folder to fill that becomes `out`, whole or not at all.

    Args:
        out: where it will stand.
        check: raises InputError where `out` may not be replaced; asked before and after the filling.

    Yields:
        An empty folder beside `out`, removed on an error.

    Raises:
        InputError: as `check` says, or `out` cannot be written.
    """
    check(out)
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        with storage_errors(out):
            yield building
            sync_tree(building)
            building.chmod(0o755)
            check(out)
            _put_in_place(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _put_in_place(building: Path, out: Path) -> None:
    if not out.is_dir() or not any(out.iterdir()):
        building.rename(out)  # over an empty folder, too
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    out.rename(old)
    building.rename(out)
    shutil.rmtree(old, ignore_errors=True)
