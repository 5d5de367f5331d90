"""Cut text into terms in Python, where no analyzer of Lucene does.

Thai, Lao, Burmese and Khmer are written without spaces, and Java's own word breakers for them are missing
from many runtimes. Overlapping runs of characters need no dictionary: documents are cut into all runs of one
to three characters, queries into those of three, or fewer where the query itself is shorter. Runs of two are
6 to 23 points of nDCG@10 behind (on Thai, Lao, Burmese and Khmer news and on Hindi without its spaces), runs
of four within 1 of three but for Burmese, and grapheme clusters no better than code points.

Other languages are cut into the pieces of a multilingual vocabulary. Words of several pieces are terms
too, beside them, and punctuation is none: together -1 to +7 points from the pieces alone, +1.3 in the mean
of twelve languages.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

UNSPACED_LANGUAGES = frozenset({"km", "lo", "my", "th"})
"""Languages written without spaces that are cut into runs of characters."""

LONGEST_RUN = 3
"""Characters (code points) of the longest terms in those languages."""

WORD_START = "▁"
"""What SentencePiece begins a word with."""

# Letters and marks of the Thai, Lao, Myanmar and Khmer scripts, but those of repetition and omission.
_LETTERS = (
    "\u0e01-\u0e2e\u0e30-\u0e3a\u0e40-\u0e45\u0e47-\u0e4e"
    "\u0e81-\u0eae\u0eb0-\u0ec4\u0ec8-\u0ece\u0edc-\u0edf"
    "\u1000-\u103f\u1050-\u108f\u109a-\u109d\ua9e0-\ua9e5\ua9e7-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa6f\uaa71-\uaa76\uaa7a-\uaa7f"
    "\u1780-\u17d3\u17dc\u17dd"
)
_BLOCKS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
_TERMS = re.compile(f"([{_LETTERS}]+)|[^\\W_{_BLOCKS}]+")

# Khmer and Lao may mark word boundaries by spaces of no width; few queries do, so they are dropped.
_NO_WIDTH = dict.fromkeys((0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF))
_FIRST_DIGITS = (0x0E50, 0x0ED0, 0x1040, 0x1090, 0x17E0, 0xA9F0)
_CHARACTERS = _NO_WIDTH | {first + digit: str(digit) for first in _FIRST_DIGITS for digit in range(10)}

_PUNCTUATION = "CPSZ"  # categories that no term consists of


def document_terms(text: str) -> list[str]:
    """Cut a document in an unspaced script.

    Returns:
        Lower-case terms, possibly repeated: all runs of up to three characters of these scripts; words and
        numbers of other scripts whole.
    """
    terms: list[str] = []
    for run, is_unspaced in _runs(text):
        if is_unspaced:
            for length in range(1, LONGEST_RUN + 1):
                terms += _of_length(run, length)
        else:
            terms.append(run)
    return terms


def query_terms(text: str) -> list[str]:
    """Cut a query in an unspaced script, so that its terms are among those of matching documents.

    Returns:
        Lower-case terms, possibly repeated: runs of three characters, or the whole where it is shorter.
    """
    terms: list[str] = []
    for run, is_unspaced in _runs(text):
        terms += _of_length(run, min(len(run), LONGEST_RUN)) if is_unspaced else [run]
    return terms


def piece_terms(pieces: Sequence[str]) -> list[str]:
    """Make terms of a text's SentencePiece pieces.

    Args:
        pieces: of one text, in order; `▁` begins a word.

    Returns:
        The pieces that hold a letter, digit or mark, each word of several followed by the whole word.
    """
    if len(pieces) == 1:  # as most words have that are asked for one by one
        return list(pieces) if _is_term(pieces[0]) else []
    terms: list[str] = []
    word: list[str] = []
    for piece in pieces:  # of a large collection, most of the time that Python takes to index it
        if piece[0] == WORD_START and word:
            terms += _of_word(word)
            word = []
        if _is_term(piece):
            word.append(piece)
    return terms + _of_word(word)


def _runs(text: str) -> list[tuple[str, bool]]:
    """Words and runs of letters, and whether they are of an unspaced script."""
    text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS).lower()
    return [(match[0], match[1] is not None) for match in _TERMS.finditer(text)]


def _of_length(run: str, length: int) -> list[str]:
    return [run[start : start + length] for start in range(len(run) - length + 1)]


def _of_word(pieces: list[str]) -> list[str]:
    return [*pieces, "".join(pieces)] if len(pieces) > 1 else pieces


@lru_cache(1 << 16)  # a quarter of a vocabulary, of which most texts have the same few
def _is_term(piece: str) -> bool:
    letters = piece.lstrip(WORD_START)
    return letters.isalnum() or any(unicodedata.category(letter)[0] not in _PUNCTUATION for letter in letters)
