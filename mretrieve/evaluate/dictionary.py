"""A dictionary of words, learned from sentences and their translations or read from a file."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from mretrieve.errors import InputError

LEAST_ROWS = 3
"""Rows in which a word and its translation must both stand."""

LEAST_DICE = 0.4
"""Least agreement (Dice, 1945) of the rows of a word with those of its translation."""

WORD = re.compile(r"[^\W_]+(?:[^\W_]|[\u0300-\u036f'’\u0900-\u0d7f\u0e00-\u109f\u1780-\u17ff])*")
"""A word with the marks upon its letters; where there are no spaces, all that stands together."""

UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]+")
"""Letters of scripts that are written without spaces."""

_LENGTHS = (2, 3, 4)  # characters of the runs that stand for words where there are no spaces


def learn_dictionary(sources: Sequence[str], targets: Sequence[str]) -> dict[str, str]:
    """Find for each frequent word the word that stands in the translations of the same sentences.

    Args:
        sources: (n,) sentences.
        targets: (n,) their translations, into a language that is written with spaces.

    Returns:
        Lower-case word -> lower-case translation, for words that are frequent enough and agree with one
        word well enough. Of a source without spaces the words are runs of two to four characters.

    Raises:
        InputError: there are not as many translations as sentences.
    """
    if len(sources) != len(targets):
        raise InputError(f"There are {len(sources):,} sentences, but {len(targets):,} translations of them.")
    rows = [(_terms(source), set(_words(target))) for source, target in zip(sources, targets, strict=True)]
    one = Counter(word for words, _ in rows for word in words)
    other = Counter(word for _, words in rows for word in words)
    together: Counter[tuple[str, str]] = Counter()
    for words, translated in rows:
        frequent = [word for word in translated if other[word] >= LEAST_ROWS]
        together.update((a, b) for a in words if one[a] >= LEAST_ROWS for b in frequent)
    best: dict[str, tuple[float, int, str]] = {}
    for (word, translation), n_rows in together.items():
        dice = 2 * n_rows / (one[word] + other[translation])
        if n_rows >= LEAST_ROWS and dice >= LEAST_DICE:
            best[word] = max(best.get(word, (0.0, 0, "")), (dice, n_rows, translation))
    found = {word: translation for word, (_, _, translation) in sorted(best.items())}
    return {word: translation for word, translation in found.items() if word != translation}  # names, mostly


def parse_dictionary(lines: Mapping[int, str], place: str) -> dict[str, str]:
    """Read lines of `word<tab>translation`.

    Args:
        lines: number -> line; empty ones and those that begin with `#` are passed over.
        place: name of the file, for messages.

    Returns:
        Lower-case word -> translation; of several the first.

    Raises:
        InputError: a line has not two columns, or there are no words.
    """
    found: dict[str, str] = {}
    for number, line in lines.items():
        if not line.strip() or line.startswith("#"):
            continue
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) != 2 or not all(columns):
            raise InputError(f"{place}:{number}: a line of a dictionary is `word<tab>translation`.")
        found.setdefault(columns[0].lower(), columns[1])
    if not found:
        raise InputError(f"{place} holds no words: a line of a dictionary is `word<tab>translation`.")
    return found


def _words(text: str) -> list[str]:
    return [match[0].lower() for match in WORD.finditer(text)]


def _terms(text: str) -> set[str]:
    """Words, and where there are no spaces runs of characters."""
    terms: set[str] = set()
    for word in _words(text):
        runs = UNSPACED.findall(word)
        if not runs:
            terms.add(word)
        for run in runs:
            terms |= {run[n : n + size] for size in _LENGTHS for n in range(len(run) - size + 1)}
    return terms
