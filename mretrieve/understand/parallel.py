"""Parallel text: a file whose rows hold one text in many languages, as NTREX-128 and SIB-200 have it."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mretrieve.datasets.files import BadRecord, read_lines
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language

METADATA = frozenset({"id", "_id", "doc", "split", "topic", "url"})
"""Fields that are no texts, though some of them are codes of languages (`id` would be Indonesian)."""


@dataclass(frozen=True)
class ParallelText:
    """Texts by language; text i says the same in all of them.

    `texts` goes by label: the ISO code, or the column's own name for a second variety of a language
    (`pt`, but `por-BR`). `columns` tells which column each label stands for, `codes` its ISO code.
    """

    path: Path
    texts: Mapping[str, Sequence[str]]
    columns: Mapping[str, str]
    codes: Mapping[str, str]

    @property
    def languages(self) -> list[str]:
        """The labels, in order of the file, or as they were asked for."""
        return list(self.texts)

    @property
    def n_rows(self) -> int:
        """How many texts each language has."""
        return len(next(iter(self.texts.values()), ()))


def read_parallel(
    path: Path,
    *,
    langs: Sequence[str] | None = None,
    limit: int | None = None,
    always: Sequence[str] = ("en",),
) -> ParallelText:
    """Read parallel text.

    Args:
        path: JSON lines, plain, gzipped or xz; each row has a field per language, named by any code
            of it (`deu`, `zho-CN`, `srp_Cyrl`).
        langs: languages wanted, by code or by name of a column; all without them.
        limit: rows to read at most.
        always: languages to put in front if `langs` lacks them.

    Returns:
        The texts of the languages wanted.

    Raises:
        InputError: the file or a language is not there, or a row is broken; its line is named.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The number of rows must be at least 1, got {limit}.")
    labels: dict[str, str] = {}
    texts: dict[str, list[str]] = {}
    for n_read, (line, row) in enumerate(_rows(path)):
        if n_read == limit:
            break
        if not labels:
            labels = _choose(path, row, langs, always)
            texts = {label: [] for label in labels}
        for label, column in labels.items():
            texts[label].append(_text(path, line, row, column))
    if not texts:
        raise InputError(f"{path} holds no rows.")
    codes = {label: normalize_language(column) for label, column in labels.items()}
    return ParallelText(path, texts, labels, codes)


def first_row(path: Path) -> dict[str, Any]:
    """The first row of a file of JSON lines.

    Raises:
        InputError: there is none, or it is broken.
    """
    for _, row in _rows(path):
        return row
    raise InputError(f"{path} holds no rows.")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of the line and content of each row that is not blank."""
    for line, text in read_lines(path):
        if isinstance(text, BadRecord):
            raise InputError(f"{path}, line {line}: {text}.")
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path}, line {line}: not valid JSON ({error}). Mend or remove it.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {line}: a JSON object is needed, with a text per language.")
        yield line, row


def _choose(
    path: Path, row: Mapping[str, Any], langs: Sequence[str] | None, always: Sequence[str]
) -> dict[str, str]:
    """Label -> column of the languages wanted, by what the first row has."""
    available = _label_columns(row)
    for code in always:
        if code not in available:
            found = ", ".join(available) or "none"
            raise InputError(f"{path} has no text in '{code}', which is needed; its languages: {found}.")
    if langs is None:
        return available
    chosen: dict[str, str] = {}
    for name in [*always, *langs]:
        if name in available or name not in row:
            label = name if name in available else normalize_language(name)
            if label not in available:
                raise _no_such(path, name, available)
            chosen.setdefault(label, available[label])
        elif name not in chosen.values():
            chosen[next(label for label, column in available.items() if column == name)] = name
    return chosen


def _label_columns(row: Mapping[str, Any]) -> dict[str, str]:
    """Label -> column, of all columns that are languages; the main variety of each gets the plain code."""
    by_code: dict[str, list[str]] = {}
    for column in row:
        if column not in METADATA and (code := _code(column)):
            by_code.setdefault(code, []).append(column)
    main = {code: max(columns, key=lambda c: _plainness(c, code)) for code, columns in by_code.items()}
    return {
        code if column == main[code] else column: column
        for column in row
        for code in [_code(column)]
        if column not in METADATA and code
    }


def _code(column: str) -> str:
    try:
        return normalize_language(column)
    except InputError:
        return ""


def _plainness(column: str, code: str) -> tuple[bool, bool]:
    """How much a column is its language's main one: `arb` before `arz`, `pes` before `prs`, `por` first."""
    import langcodes

    language, *more = column.replace("_", "-").split("-")
    # The registry's own choice: of the Arabic varieties only `arb` stands for `ar`, and `prs` is `fa-AF`.
    return langcodes.standardize_tag(language, macro=True) == code, not more


def _no_such(path: Path, name: str, available: Mapping[str, str]) -> InputError:
    near = difflib.get_close_matches(name, available, n=3, cutoff=0.3)
    hint = f" Near it: {', '.join(near)}." if near else ""
    listed = ", ".join(list(available)[:40]) + (", ..." if len(available) > 40 else "")
    return InputError(f"{path} has no text in '{name}'.{hint} Its languages: {listed}.")


def _text(path: Path, line: int, row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if type(value) is not str or not value.strip():
        wrong = "is missing or empty" if value is None or value == "" else f"is {value!r:.50}"
        raise InputError(
            f"{path}, line {line}: the field '{column}' {wrong}, but every row needs a text in each language "
            "asked for."
        )
    return value
