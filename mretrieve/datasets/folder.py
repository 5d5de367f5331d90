"""Read a folder of text and Markdown files as documents, long files in several pieces."""

import os
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from mretrieve.datasets.chunking import chunk_text
from mretrieve.datasets.files import BadRecord, read_blocks
from mretrieve.errors import InputError
from mretrieve.types import Document

MARKDOWN = frozenset((".md", ".markdown"))
TEXT_FILES = MARKDOWN | {".txt"}

_FRONT_MATTER = re.compile(
    r"\A(---|\+\+\+)[ \t]*\r?\n.*?^(?:\1|\.\.\.)[ \t]*\r?(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*\Z")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*\Z")
_PARAGRAPH = re.compile(r" {0,3}[^\s>|*+#=-]")  # no item, quotation or table
_FENCE = re.compile(r" {0,3}(?:```|~~~)")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def list_text_files(folder: Path) -> list[Path]:
    """Find the text and Markdown files under a folder, sorted by their relative paths.

    Hidden files and folders are left out, and links to folders are not followed (they may form a circle).

    Raises:
        InputError: a folder may not be read.
    """

    def stop(error: OSError) -> None:
        raise InputError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error

    found = []
    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in TEXT_FILES:
                found.append(Path(parent, name))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def read_text_file(path: Path, name: str) -> Iterator[tuple[int, Document | BadRecord]]:
    """Read one file as documents `name#1`, `name#2`, ... of about `CHUNK_SIZE` characters.

    Args:
        path: text or Markdown file. Of Markdown, front matter is left out and the first heading is the title.
        name: how ids and places call the file.

    Yields:
        First line of each piece and the piece; or what is wrong with the file.
    """
    if not _is_text(name):
        yield 1, BadRecord("not UTF-8", "the name of this file is not UTF-8; rename it")
        return
    number = 0
    try:
        blocks = read_blocks(path)
        title, line, blocks = _read_head(blocks) if path.suffix.lower() in MARKDOWN else ("", 1, blocks)
        for number, chunk in enumerate(chunk_text(blocks, first_line=line), start=1):
            place = f"{name}:{chunk.line}"
            yield chunk.line, Document(f"{name}#{number}", chunk.text, title=title, place=place)
    except BadRecord as fault:
        yield 1, fault
        return
    if not number:
        yield 1, BadRecord("empty text", "this file is empty")


def _read_head(blocks: Iterator[str]) -> tuple[str, int, Iterator[str]]:
    """The title of a Markdown text, the line where its body begins, and the body."""
    text = next(blocks, "")
    front = _FRONT_MATTER.match(text)
    skipped = front.end() if front else 0
    title, length, leading = _first_heading(text[skipped:])
    if leading and text[skipped + length :].strip():
        skipped += length  # the title stands for itself and need not be repeated in the text
    elif leading:
        title = ""  # nothing but a heading: it is the text
    return title, text.count("\n", 0, skipped) + 1, chain([text[skipped:]], blocks)


def _first_heading(text: str) -> tuple[str, int, bool]:
    """The first heading outside of code, where it ends, and whether nothing precedes it."""
    lines = text.splitlines(keepends=True)
    fenced, blank, passed = False, True, 0
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        fenced ^= bool(_FENCE.match(line))
        bare, under = line.rstrip("\r\n"), following.rstrip("\r\n")
        passed += len(line)
        heading = None if fenced else _HEADING.match(bare)
        if heading and heading[1]:
            return _plain(heading[1]), passed, blank
        if not fenced and _PARAGRAPH.match(bare) and _UNDERLINE.match(under):
            return _plain(bare), passed + len(following), blank
        blank = blank and not bare.strip()
    return "", 0, False


def _plain(heading: str) -> str:
    """A heading without links and emphasis."""
    return re.sub(r"[*`]|(?<!\w)_|_(?!\w)", "", _LINK.sub(r"\1", heading)).strip()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
