"""Which pieces of a vocabulary a few languages need.

Abdaoui et al., 2020, Load What You Need (arXiv:2010.05609), and BiStil (Parovic et al., 2023,
arXiv:2306.02574): most rows of a multilingual model's embeddings belong to other languages.
"""

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence

from mretrieve.language_tables import SCRIPT_RANGES
from mretrieve.models.unigram import METASPACE

_SCRIPT_SHARE = 0.001
"""Of a sample's letters; scripts with fewer occur in quoted names only."""

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_STARTS = tuple(first for first, _, _ in SCRIPT_RANGES)


def pieces_within(pieces: Sequence[str], words: Iterable[str]) -> set[int]:
    """Numbers of the pieces that occur in words as strings, whether or not words are cut into them.

    Those that are not used there are what other words of the language are cut into: with them, 2,000
    sentences hold 95% of the tokens of German text of another kind, instead of 92%.
    """
    numbers = {piece: number for number, piece in enumerate(pieces)}
    longest = max(map(len, pieces), default=0)
    found: set[int] = set()
    for word in words:
        for start in range(len(word)):
            for end in range(start + 1, min(start + longest, len(word)) + 1):
                number = numbers.get(word[start:end])
                if number is not None:
                    found.add(number)
    return found


def pieces_to_keep(
    pieces: Sequence[tuple[str, float]], used: Iterable[int], texts: Sequence[str]
) -> set[int]:
    """Numbers of the pieces to keep.

    Beside those that are used: digits and punctuation in any combination of ASCII, single characters that
    are no letters, single letters of the scripts that the texts are written in and of all pieces used,
    bytes, and the least likely piece. The single ones are there to spell words that hold other pieces. The
    last one sets the score of unknown characters in SentencePiece, so that no path through unknown characters
    can become better than it was; with it, text whose pieces are all kept is cut exactly as before:

    - a path of kept pieces has the score that it had, and no path gains any,
    - but where a letter went, a path through an unknown character is new. It scores less than the path
      through the letter did, for that character is taken at 10 below the least likely piece; and that path
      did not win.

    Args:
        pieces: piece and score, in order of id.
        used: numbers of the pieces that occur in the languages' texts, and of special tokens, which may lie
            beyond the pieces.
        texts: the languages' texts, for their scripts.
    """
    scripts = _scripts(texts)
    keep = set(used)
    inside = set().union(*(pieces[number][0] for number in keep if number < len(pieces)))
    keep.add(min(range(len(pieces)), key=lambda number: pieces[number][1]))
    for number, (piece, _) in enumerate(pieces):
        single = len(piece) == 1 and (piece in inside or _is_needed(piece, scripts))
        if single or _is_neutral(piece) or _BYTE.fullmatch(piece):
            keep.add(number)
    return keep


def _is_neutral(piece: str) -> bool:
    """Digits and punctuation of ASCII alone, with or without the mark of a word's start."""
    rest = piece.removeprefix(METASPACE)
    return rest.isascii() and not any(map(str.isalpha, rest))


def _is_needed(character: str, scripts: frozenset[str]) -> bool:
    if unicodedata.category(character)[0] in "LM":
        return _script(character) in scripts
    return unicodedata.category(character)[0] in "NPSZ"


def _scripts(texts: Sequence[str]) -> frozenset[str]:
    """Scripts of the texts, as `SCRIPT_RANGES` has them, and empty for letters and marks of no script."""
    counts: Counter[str] = Counter()
    for character, times in Counter(c for text in texts for c in text).items():
        if unicodedata.category(character)[0] in "LM":
            counts[_script(character)] += times
    least = _SCRIPT_SHARE * counts.total()
    return frozenset(script for script, times in counts.items() if times >= least) | {""}


def _script(character: str) -> str:
    place = bisect_right(_STARTS, ord(character)) - 1
    if place < 0:
        return ""
    _, last, script = SCRIPT_RANGES[place]
    return script if ord(character) <= last else ""
