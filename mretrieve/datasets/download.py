"""Fetch files whole or not at all: resumed where they were cut off, and compared with their checksums.

A file grows under its name with `.partial`, and gets its own name when all its bytes are there and right.
So a file that has its name needs no second look.
"""

import errno
import hashlib
import os
import time
import urllib.error
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO

from mretrieve import files
from mretrieve.datasets.hub import RemoteFile, UnreachableError, open_url
from mretrieve.errors import InputError

OnProgress = Callable[[str, int, int | None], None]
"""Told of a stage's name, how many bytes are done, and of how many (None when unknown)."""

TRIES = 4
"""How often a cut connection is taken up again without any byte gained."""

WAIT_SECONDS = 1.0
"""Before the second try; doubled before each further one."""

_BLOCK_BYTES = 1 << 20
_RANGE_REFUSED = 416
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fetch(remote: RemoteFile, target: Path, *, on_bytes: Callable[[int], None] | None = None) -> Path:
    """Fetch one file, or what is missing of it.

    Args:
        remote: what is wanted.
        target: where it goes; one that is there already is left alone.
        on_bytes: called with the number of bytes that each block brought.

    Returns:
        `target`.

    Raises:
        UnreachableError: there is no connection; what has come so far is kept for the next time.
        InputError: the host has no such file, its bytes have another checksum than the hub says (then
            nothing of them is kept), or the disk is full.
    """
    if target.is_file():
        return target
    with files.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(target):
            if not target.is_file():  # another process may have been quicker
                _fetch(remote, target, on_bytes or _silent)
    return target


def _fetch(remote: RemoteFile, target: Path, on_bytes: Callable[[int], None]) -> None:
    partial = target.with_name(target.name + files.PARTIAL)
    tries = 0
    while True:
        before = _size(partial)
        try:
            _continue(remote, partial, on_bytes)
            break
        except urllib.error.HTTPError as error:
            if error.code != _RANGE_REFUSED and error.code < 500:
                raise InputError(f"{remote.url} cannot be fetched: {error.code} {error.reason}.") from error
            if error.code == _RANGE_REFUSED:
                partial.unlink(missing_ok=True)  # longer than the file is
            reason = f"{error.code} {error.reason}"
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and (error.filename or error.errno in _NO_ROOM):
                raise  # of this disk, not of the connection
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        tries = 1 if _size(partial) > before else tries + 1
        if tries >= TRIES:
            raise UnreachableError(
                f"{remote.url} cannot be fetched now ({reason}). Run the same command again: it goes on "
                f"after the {_size(partial):,} bytes that are here."
            )
        time.sleep(WAIT_SECONDS * 2 ** (tries - 1))
    _check(remote, partial)
    os.replace(partial, target)
    files.sync_folder(target.parent)


def _continue(remote: RemoteFile, partial: Path, on_bytes: Callable[[int], None]) -> None:
    """Append what is missing to the partial file."""
    start = _size(partial)
    if remote.size is not None and start >= remote.size:
        if start == remote.size:
            return
        partial.unlink()
        start = 0
    with open_url(remote.url, first_byte=start) as response:
        if start and response.status != 206:
            start = 0  # a host that knows no ranges sends all of it
        expected = _expected(response, start)
        with partial.open("ab" if start else "wb") as file:
            got = start + _copy(response, file, on_bytes)
            file.flush()
            os.fsync(file.fileno())
    if expected is not None and got < expected:
        raise ConnectionError(f"the connection was cut after {got:,} of {expected:,} bytes")


def _copy(response: Any, file: BinaryIO, on_bytes: Callable[[int], None]) -> int:
    n_bytes = 0
    while block := response.read(_BLOCK_BYTES):
        file.write(block)
        n_bytes += len(block)
        on_bytes(len(block))
    return n_bytes


def _expected(response: Any, start: int) -> int | None:
    length = response.headers.get("Content-Length")
    return start + int(length) if length and length.isdigit() else None


def _check(remote: RemoteFile, partial: Path) -> None:
    """Compare with the checksum that the hub names; bytes that are not right are not kept."""
    size = _size(partial)
    if remote.sha256:
        wanted, found = remote.sha256, files.sha256_of(partial)
    elif remote.git_sha1:
        wanted, found = remote.git_sha1, _git_sha1(partial)
    else:
        wanted = found = ""
    if (remote.size is not None and size != remote.size) or wanted != found:
        partial.unlink()
        raise InputError(
            f"{remote.url} came with other bytes than the hub names ({size:,} bytes, checksum {found[:12]}; "
            f"expected {_bytes(remote.size)}, {wanted[:12]}). Nothing of it was kept: fetch it again, or "
            "from another mirror by HF_ENDPOINT."
        )


def _git_sha1(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _bytes(size: int | None) -> str:
    return f"{size:,} bytes" if size is not None else "any size"


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _silent(n_bytes: int) -> None:
    pass
