"""Queries as people also type them: with slips, in Latin letters, mixed with another language, or disguised.

What is changed depends on the seed and the query's id alone, so a query has the same variant in every file.
"""

import hashlib
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.evaluate.dictionary import UNSPACED, WORD
from mretrieve.evaluate.lookalikes import DIGITS, KEYBOARD, LOOKALIKES
from mretrieve.types import Query

Kind = Literal["typo", "romanise", "code-mix", "camouflage"]

RATES: Mapping[Kind, float] = {"typo": 0.2, "romanise": 1.0, "code-mix": 0.5, "camouflage": 0.5}
"""Share of the words that are changed unless told otherwise."""

Dictionary = Mapping[str, str]
"""Lower-case word -> its translation; words of languages without spaces may be of any length."""

_UNSPACED_WORD = 3  # letters that stand for a word where there are no spaces
_SHORTEST_WORD = 3  # letters of words that get slips of the finger
_INVISIBLE = "\u2060"  # WORD JOINER

_SLIPS = ("swap", "drop", "double", "near")


@dataclass(frozen=True, slots=True)
class Perturbed:
    """Variants of queries.

    Attributes:
        queries: in the order given, with the same ids and languages.
        changed: how many differ from what was given.
    """

    queries: tuple[Query, ...]
    changed: int


def perturb(
    queries: Iterable[Query],
    kind: Kind,
    *,
    rate: float | None = None,
    seed: int = 13,
    dictionaries: Mapping[str, Dictionary] | None = None,
) -> Perturbed:
    """Make variants of queries.

    Args:
        queries: in any languages.
        kind: `typo` (letters swapped, dropped, doubled, or replaced by one beside it), `romanise` (in Latin
            letters), `code-mix` (words replaced by their translation) or `camouflage` (letters replaced by
            others that look alike).
        rate: share of the words that are changed; by default `RATES`.
        seed: of the choice of words and of what becomes of them.
        dictionaries: query language -> its dictionary, for `code-mix`; the key `` is that of queries whose
            language is not known.

    Returns:
        The variants.

    Raises:
        InputError: the kind is unknown, the rate is not between 0 and 1, or `code-mix` lacks a dictionary.
        MissingDependencyError: `romanise` needs anyascii.
    """
    if kind not in get_args(Kind):
        raise InputError(f"Unknown kind '{kind}'. Choose from: {', '.join(get_args(Kind))}.")
    chosen = RATES[kind] if rate is None else rate
    if not 0 <= chosen <= 1:
        raise InputError(f"The rate is {chosen}, but it is a share of the words: from 0 to 1.")
    change_of = _changes(kind, dictionaries)
    given = list(queries)
    made = [
        replace(one, text=_variant(one.text, *change_of(one), chosen, _seed(seed, kind, one.query_id)))
        for one in given
    ]
    changed = sum(one.text != other.text for one, other in zip(given, made, strict=True))
    return Perturbed(tuple(made), changed)


def romanise(text: str) -> str:
    """A text in plain Latin letters, by the package anyascii.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        from anyascii import anyascii
    except ImportError as error:
        raise MissingDependencyError(
            "Romanised queries need anyascii, which is not installed. Run `pip install anyascii`."
        ) from error
    return str(anyascii(text))


_Change = Callable[[str, random.Random], str]
_Segment = Callable[[str, Callable[[str], str]], str]


def _variant(text: str, change: _Change, segment: _Segment, rate: float, seed: int) -> str:
    """A text with some of its words changed; the text itself where nothing would be left of it."""
    draw = random.Random(seed)
    made = segment(text, lambda word: change(word, draw) if draw.random() < rate else word)
    return made if made.strip() else text


def _changes(
    kind: Kind, dictionaries: Mapping[str, Dictionary] | None
) -> Callable[[Query], tuple[_Change, _Segment]]:
    """What becomes of a word of a query, and what its words are."""
    if kind != "code-mix":
        change: _Change = {"typo": _slip, "romanise": _in_latin, "camouflage": _disguise}[kind]
        segment = _whole_words if kind == "romanise" else _words
        return lambda query: (change, segment)
    if not dictionaries:
        raise InputError("Mixing languages needs a dictionary: give one, or a file of parallel text.")
    empty: Dictionary = {}

    def change_of(query: Query) -> tuple[_Change, _Segment]:
        known = dictionaries.get(query.lang, dictionaries.get("", empty))

        def translated(word: str, draw: random.Random) -> str:
            return known.get(word.lower(), word)

        return translated, lambda text, turn: _dictionary_words(text, turn, known)

    return change_of


def _seed(seed: int, kind: str, query_id: str) -> int:
    digest = hashlib.sha256(f"{seed} {kind} {query_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def _whole_words(text: str, change: Callable[[str], str]) -> str:
    """Change the words of a text; where there are no spaces, what stands between two is one word."""
    return re.sub(r"\S+", lambda match: change(match[0]), text)


def _words(text: str, change: Callable[[str], str]) -> str:
    """Change the words of a text; where there are no spaces, some letters stand for a word."""

    def changed(match: re.Match[str]) -> str:
        word = match[0]
        if not UNSPACED.search(word):
            return change(word)
        letters = _letters(word)
        parts = [letters[n : n + _UNSPACED_WORD] for n in range(0, len(letters), _UNSPACED_WORD)]
        return "".join(change("".join(part)) for part in parts)

    return WORD.sub(changed, text)


def _dictionary_words(text: str, change: Callable[[str], str], known: Dictionary) -> str:
    """As `_words`; where there are no spaces, words are the longest entries of the dictionary."""
    longest = max((len(word) for word in known), default=1)

    def changed(match: re.Match[str]) -> str:
        run = match[0]
        if not UNSPACED.search(run):
            return change(run)
        made, start = "", 0
        while start < len(run):
            sizes = range(min(longest, len(run) - start), 0, -1)
            size = next((n for n in sizes if run[start : start + n].lower() in known), 1)
            word = run[start : start + size]
            new = change(word)
            made += f" {new} " if new != word else word
            start += size
        return " ".join(made.split())

    return WORD.sub(changed, text)


def _letters(word: str) -> list[str]:
    """Letters with the marks upon them."""
    letters: list[str] = []
    for character in word:
        if letters and unicodedata.category(character).startswith("M"):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


def _slip(word: str, draw: random.Random) -> str:
    """One slip of the finger, never at the first letter, which people rarely get wrong."""
    letters = _letters(word)
    shortest = 2 if UNSPACED.search(word) else _SHORTEST_WORD
    if len(letters) < shortest or word.isdecimal():
        return word
    place = draw.randrange(1, len(letters))
    slip = draw.choice(_SLIPS)
    if slip == "swap" and (place == 1 or letters[place - 1] == letters[place]):
        slip = "drop"
    if slip == "swap":
        letters[place - 1], letters[place] = letters[place], letters[place - 1]
    elif slip == "near":
        letters[place] = _near_letter(letters[place], draw)
    elif slip == "double":
        letters[place] *= 2
    elif slip == "drop":
        letters.pop(place)
    return "".join(letters)


def _near_letter(letter: str, draw: random.Random) -> str:
    """A letter beside another: on the keyboard, else in Unicode's table of the same script."""
    low = letter.lower()
    if low in KEYBOARD:
        near = draw.choice(KEYBOARD[low])
        return near.upper() if letter != low else near
    point = ord(letter[0])
    script = unicodedata.name(letter[0], "").split(" ")[0]
    around = [
        chr(other)
        for other in range(max(point - 8, 0), point + 9)
        if other != point
        and unicodedata.category(chr(other)) == unicodedata.category(letter[0])
        and unicodedata.name(chr(other), "").split(" ")[0] == script
    ]
    return draw.choice(around) + letter[1:] if around else letter


def _in_latin(word: str, draw: random.Random) -> str:
    return romanise(word)


def _disguise(word: str, draw: random.Random) -> str:
    """Half of the letters that have lookalikes replaced by one; invisible signs in a word without such."""
    letters = _letters(word)
    alike = [LOOKALIKES.get(letter, "") + DIGITS.get(letter.lower(), "") for letter in letters]
    if not any(alike):
        return "".join(letter + _INVISIBLE if draw.random() < 0.5 else letter for letter in letters)
    return "".join(
        draw.choice(choices) if choices and draw.random() < 0.5 else letter
        for letter, choices in zip(letters, alike, strict=True)
    )
