"""Open files of text, compressed or not, and say exactly where one is broken."""

import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mretrieve.errors import InputError

_UNPACK: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}
"""First bytes of a compressed file -> what opens it."""

_BLOCK_BYTES = 1 << 20


class BadRecord(Exception):
    """One record that cannot be used, while the records after it may be.

    `reason` is a short name under which such records are counted; the message tells what is wrong with this
    one, without its place.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@contextmanager
def readable(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed if it is gzip or xz (whatever it is called).

    Raises:
        InputError: the file is missing, not readable, a folder, or (while it is read) cut off or damaged.
    """
    try:
        with path.open("rb") as raw:
            # Asked of the first bytes, not of the name: both mistakes in naming occur.
            start = raw.peek(8)
            unpack = next((how for magic, how in _UNPACK.items() if start.startswith(magic)), None)
            if unpack is None:
                yield raw
            else:
                with unpack(raw) as unpacked:
                    yield unpacked
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, but a file is needed here.") from None
    except PermissionError:
        raise InputError(f"{path} may not be read by this user: change its permissions.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise InputError(
            f"{path} is cut off or damaged ({_lower_first(error)}): fetch or make it again."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_lines(path: Path) -> Iterator[tuple[int, str | BadRecord]]:
    """Read a file line by line.

    Yields:
        Number of the line, from 1, and its text without the line break; or, where it is not UTF-8, what is
        wrong with it. A byte order mark is dropped.

    Raises:
        InputError: see `readable`.
    """
    with readable(path) as file:
        offset = 0
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            try:
                text: str | BadRecord = content.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                text = not_utf8(error, offset + len(line) - len(content))
            yield number, text
            offset += len(line)


def read_blocks(path: Path) -> Iterator[str]:
    """Read a text file in pieces of about a mebibyte, each but the last ending at white space if possible.

    Raises:
        BadRecord: the file is not UTF-8.
        InputError: see `readable`.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest = ""
    offset = 0
    with readable(path) as file:
        block = file.read(_BLOCK_BYTES)
        while block:
            pending = len(decoder.getstate()[0])  # bytes of a character that the last block cut in two
            try:
                text = rest + decoder.decode(block)
            except UnicodeDecodeError as error:
                raise not_utf8(error, offset - pending) from None
            text = text.removeprefix("\ufeff") if offset == 0 else text
            offset += len(block)
            block = file.read(_BLOCK_BYTES)
            cut = (max(text.rfind("\n"), text.rfind(" ")) + 1 if block else 0) or len(text)
            yield text[:cut]
            rest = text[cut:]
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise not_utf8(error, offset - len(decoder.getstate()[0])) from None
    if rest:
        yield rest


def not_utf8(error: UnicodeDecodeError, offset: int) -> BadRecord:
    """Describe a failure to decode; `offset` is where in the file the decoded bytes start."""
    byte = error.object[error.start]
    position = offset + error.start
    utf16 = " (it looks like UTF-16)" if position < 2 and byte in (0xFE, 0xFF) else ""
    return BadRecord(
        "not UTF-8", f"not UTF-8: byte 0x{byte:02x} at offset {position}{utf16}; convert the file to UTF-8"
    )


def _lower_first(error: BaseException) -> str:
    message = str(error).rstrip(".")
    return message[:1].lower() + message[1:]
