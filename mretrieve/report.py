"""What commands print: results on stdout, everything else on stderr."""

import codecs
import errno
import io
import json
import logging
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mretrieve.types import Hit

if TYPE_CHECKING:
    from mretrieve.index.manifest import Manifest

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_NUMBER = re.compile(r"[-+]?[\d,]+(\.\d+)?")
_LONGEST_COLUMN = 40  # cells up to which ids of hits are aligned
_TEXT_LINES = 3  # of a hit on a terminal
_TEXT_CELLS = 300  # of a hit in a file or a pipe
_MARK = "…"


def write_any_text() -> None:
    """Have stdout and stderr take every character, escaped as in Python where their encoding lacks it.

    ASCII means that the system knows nothing of encodings; today's terminals read UTF-8 then too.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = "utf-8" if codecs.lookup(stream.encoding).name == "ascii" else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def tell(message: str) -> None:
    """Write a message to stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


class ToStderr(logging.Handler):
    """Writes to what stderr is at the moment, which a progress bar replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        tell(self.format(record))


def write(text: str) -> None:
    """Write a result to stdout, at once, so that a full disk or a closed pipe shows here."""
    if sys.stdout is not None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def write_json(value: object) -> None:
    """Write a result for programs: readable UTF-8, or plain ASCII where stdout is not UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    write(json.dumps(value, ensure_ascii=codecs.lookup(encoding).name != "utf-8", indent=2))


def describe(error: OSError) -> str:
    """An error of the system as one sentence that says what to do."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f" ({error.filename})" if error.filename else ""
        return f"{reason}{where}: free some space and run the same command again."
    if not error.filename:
        return f"Reading or writing failed: {reason}."
    return (
        f"Cannot use {error.filename}: {reason}. Check that its folder exists and that you may write there."
    )


def abandon_stdout() -> None:
    """Drop what stdout has not taken, lest Python tries to write it again at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text; those of numbers only are aligned at the right, the first never."""
    widths = [max(map(cell_width, column)) for column in zip(header, *rows, strict=True)]
    at_right = [
        column > 0 and all(not cell or _NUMBER.fullmatch(cell) for cell in cells)
        for column, cells in enumerate(zip(*rows, strict=True))
    ]
    lines = []
    for row in [header, *rows]:
        cells = [pad(*cell) for cell in zip(row, widths, at_right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_hits(hits: Sequence[Hit], *, width: int | None = None) -> str:
    """Hits as text, two or more lines each.

    Args:
        hits: best first.
        width: cells of the terminal, into which texts are broken; None for one line each, however long.
    """
    rows = [[str(hit.rank), _clean(hit.doc_id), f"[{hit.lang}]", *_scores(hit)] for hit in hits]
    widths = [max(map(cell_width, column)) for column in zip(*rows, strict=True)]
    widths = [0 if cells > _LONGEST_COLUMN else cells for cells in widths]
    indent = " " * (widths[0] + 2)
    lines = []
    for hit, row in zip(hits, rows, strict=True):
        cells = [pad(cell, widths[n], at_right=n == 0) for n, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
        if hit.title:
            lines.append(indent + shorten(_clean(hit.title), (width or _TEXT_CELLS) - len(indent)))
        text = _clean(hit.text)
        if width is None:
            lines.append(indent + shorten(text, _TEXT_CELLS))
        else:
            lines += [indent + line for line in wrap(text, width - len(indent), max_lines=_TEXT_LINES)]
    return "\n".join(lines)


def format_scores(results: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """A table of measures.

    Args:
        results: file of a run -> what `mretrieve evaluate --json` gives of it.
        names: of the measures, in the order of the columns.
    """
    files = [Path(run).name for run in results]
    labels = dict(zip(results, files, strict=True)) if len(set(files)) == len(files) else {}
    by_language = any("languages" in result for result in results.values())
    rows = []
    for run, result in results.items():
        parts = [
            (lang, str(one["queries"]), one["mean"]) for lang, one in result.get("languages", {}).items()
        ]
        if by_language:
            parts.append(("mean of these", "", result["mean_of_languages"]))
        parts.append(("all", str(result["queries"]), result["mean"]))
        for lang, n_queries, mean in parts:
            label = [labels.get(run, run), lang] if by_language else [labels.get(run, run)]
            rows.append([*label, n_queries, *(f"{mean[name]:.4f}" for name in names)])
    return table(["run", *(["language"] if by_language else []), "queries", *names], rows)


def summarise(manifest: "Manifest") -> str:
    """`1,234 documents in 12 languages, 1.2 MB`."""
    documents, languages = count(manifest.documents, "document"), count(len(manifest.languages), "language")
    return f"{documents} in {languages}, {size(manifest.n_bytes)}"


def format_manifest(path: Path, manifest: "Manifest", *, java: str, verified: bool) -> str:
    """What an index holds: its parts, then its languages, those with most documents first."""
    encoder, dense, ranking, built = manifest.encoder, manifest.dense, manifest.ranking, manifest.built
    languages = sorted(manifest.languages.items(), key=lambda item: (-item[1].documents, item[0]))
    rows = [["index", str(path)], ["documents", f"{manifest.documents:,}"], ["size", size(manifest.n_bytes)]]
    if encoder is not None and dense is not None:
        rows.append(["model", f"{encoder.model} ({encoder.fingerprint}, {encoder.dtype})"])
        search = f", searched with {dense.search}" if dense.search else ""
        rows.append(["dense", f"{dense.factory}, {encoder.dim} dimensions{search}"])
    else:
        rows.append(["dense", "none"])
    if any(entry.analyzer for _, entry in languages):
        rows += [["bm25", f"k1 {ranking.k1:g}, b {ranking.b:g}"], ["java", java]]
    else:
        rows.append(["bm25", "none"])
    rows.append(["fusion", ranking.fusion])
    rows.append(["built", f"{built.at} by mretrieve {built.mretrieve}"])
    if verified:
        rows.append(["verified", f"all {count(len(manifest.files), 'file')}"])
    # `anserini:org.apache.lucene.analysis.ar.ArabicAnalyzer` is for programs, its last part for people.
    analyzers = [
        [lang, f"{entry.documents:,}", (entry.analyzer or "none").rpartition(":")[2].rpartition(".")[2]]
        for lang, entry in languages
    ]
    parts = "\n".join(f"{name:<9}  {value}" for name, value in rows)
    return parts + "\n\n" + table(["language", "documents", "analyzer"], analyzers)


def terminal_width() -> int | None:
    """Cells of the terminal that results go to; None if they go to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def count(number: int, noun: str) -> str:
    """`1 document`, `1,234 documents`, `2 queries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def size(n_bytes: int) -> str:
    """`812 bytes`, `1.2 MB`, in powers of 1,000."""
    amount, unit = float(n_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.95:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"


def cell_width(text: str) -> int:
    """Cells that a text takes on a terminal: two for a wide character, none for a mark upon another."""
    return len(text) if text.isascii() else sum(map(_character_width, text))


def pad(text: str, width: int, at_right: bool = False) -> str:
    """Fill up to a number of cells."""
    spaces = " " * (width - cell_width(text))
    return spaces + text if at_right else text + spaces


def shorten(text: str, width: int) -> str:
    """Cut a text to a number of cells, with an ellipsis if anything is lost."""
    if cell_width(text) <= width:
        return text
    return _take(text, width - 1)[0].rstrip() + _MARK


def wrap(text: str, width: int, *, max_lines: int) -> list[str]:
    """Break a text into lines of `width` cells, at spaces if there are any, with an ellipsis at its cut."""
    lines: list[str] = []
    width = max(width, 20)
    while text:
        if len(lines) == max_lines - 1:
            return [*lines, shorten(text, width)]
        line, rest = _take(text, width)
        space = line.rfind(" ")
        # A long word goes over the edge of the line rather than leaving most of it empty.
        if rest and not rest.startswith(" ") and cell_width(line[:space]) > width // 2 and space > 0:
            line, rest = line[:space], line[space:] + rest
        lines.append(line.rstrip())
        text = rest.lstrip()
    return lines


def _take(text: str, width: int) -> tuple[str, str]:
    """As much as fits into a number of cells, and the rest; marks stay with what they are upon."""
    used = 0
    for place, character in enumerate(text):
        used += _character_width(character)
        if used > width:
            return text[:place], text[place:]
    return text, ""


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _clean(text: str) -> str:
    """On one line and without control characters, by which a document could take over the terminal."""
    return _CONTROL.sub("\ufffd", " ".join(text.split()))


def _scores(hit: Hit) -> Iterator[str]:
    """The score, and for hits of two legs what each said."""
    yield f"{hit.score:.4f}"
    for name in ("dense", "bm25"):
        rank, score = getattr(hit, f"{name}_rank"), getattr(hit, f"{name}_score")
        yield "" if rank is None or score == hit.score else f"{name} {score:.3f} (#{rank})"
