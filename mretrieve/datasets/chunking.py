"""Cut long texts of any script at the ends of sentences, into pieces that an encoder takes whole.

Chinese, Japanese and Korean characters count double: they make twice as many tokens as Latin letters do.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

CHUNK_SIZE = 1000
"""Largest size of a chunk, in characters (CJK characters count twice): 200 to 400 tokens."""

OVERLAP_SIZE = 250
"""A chunk begins with the last sentence of the one before, unless that is longer than this."""

_WIDE = re.compile(
    r"[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff]"
)

_CLOSING = r"[\"'”’»›)\]}」』】〉》）］]*"
_SPACES_ONLY = r"\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
_SENTENCE_END = re.compile(
    "|".join(
        (
            # Not after one letter or a number of one or two digits: "J. K. Rowling", "am 3. Mai".
            rf"(?P<stop>(?:(?<!\b\w)(?<!\b\d\d)\.|[!?…])[.!?…]*{_CLOSING}\s+)",
            rf"[。！？｡]+{_CLOSING}\s*",
            rf"[।॥؟۔።፧។៕။༎།։]+{_CLOSING}\s*",
            r"(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e]\s+",  # the Greek question mark
            rf"(?<=[{_SPACES_ONLY}])[^\S\n]+(?=[{_SPACES_ONLY}])",
            r"\n[^\S\n]*\n\s*",
            r"\n(?=[^\S\n]*(?:[#>*+|•-]|\d+[.)])\s)",  # headings, quotations, items and rows of Markdown
        )
    )
)
# Where a sentence that is longer than a chunk may be cut, best first.
_LESSER_ENDS = (re.compile(r"\n\s*"), re.compile(r"[;:,،؛၊]\s+|[、，；：]\s*"), re.compile(r"[\s\u200b]+"))
_LEADING_VOWELS = frozenset("\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4")
_LONGEST_WORD = 60


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text and the line, from 1, on which it begins."""

    text: str
    line: int


def chunk_text(
    blocks: Iterable[str], *, size: int = CHUNK_SIZE, overlap: int = OVERLAP_SIZE, first_line: int = 1
) -> Iterator[Chunk]:
    """Cut a text into overlapping chunks of whole sentences.

    Args:
        blocks: the text, in one piece or several; only a chunk and a block are held at a time.
        size: largest size of a chunk, in characters of which CJK ones count twice. A longer sentence is cut
            at a line break, a comma or a space; a longer word between two characters.
        overlap: largest size of the sentence that two neighbouring chunks share.
        first_line: number of the text's first line.

    Yields:
        Chunks in order, none of them blank.

    Raises:
        ValueError: `size` is less than 2, or `overlap` is not less than `size`.
    """
    if size < 2 or not 0 <= overlap < size:
        raise ValueError(
            f"size must be at least 2 and overlap between 0 and size - 1, got {size} and {overlap}."
        )
    window: list[str] = []
    shared = 0  # how many of the window's sentences stand in the last chunk too
    filled, line = 0, first_line
    for sentence in _sentences(blocks, size):
        weight = _weight(sentence)
        if filled + weight > size and len(window) > shared:
            yield from _chunk(window, line)
            kept = (
                window[-1:] if len(window) > 1 and _weight(window[-1]) <= min(overlap, size - weight) else []
            )
            line += sum(passed.count("\n") for passed in window[: len(window) - len(kept)])
            window, shared, filled = kept, len(kept), sum(map(_weight, kept))
        window.append(sentence)
        filled += weight
    if len(window) > shared:
        yield from _chunk(window, line)


def _chunk(sentences: list[str], line: int) -> Iterator[Chunk]:
    text = "".join(sentences)
    if stripped := text.strip():
        yield Chunk(stripped, line + text[: len(text) - len(text.lstrip())].count("\n"))


def _sentences(blocks: Iterable[str], size: int) -> Iterator[str]:
    """Cut a text into sentences with the white space after them, none heavier than `size`."""
    rest = ""
    for block in blocks:
        text, start = rest + block, 0
        for end in _sentence_ends(text):
            yield from _pieces(text[start:end], size)
            start = end
        *done, rest = _pieces(text[start:], size) or [""]  # the last sentence may go on in the next block
        yield from done
    if rest:
        yield rest


def _sentence_ends(text: str) -> Iterator[int]:
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        # "e.g. this" and "etc. and so on" go on; the end of the text may be no end of a sentence.
        if end < len(text) and not (match["stop"] and text[end].islower()):
            yield end


def _pieces(sentence: str, size: int) -> list[str]:
    pieces, start = [], 0
    while _weight(sentence[start : start + size + 1]) > size:
        end = _cut(sentence, start, size)
        pieces.append(sentence[start:end])
        start = end
    if start < len(sentence):
        pieces.append(sentence[start:])
    return pieces


def _cut(sentence: str, start: int, size: int) -> int:
    """The best place to cut a sentence so that the piece from `start` weighs at most `size`."""
    limit = start + size
    while _weight(sentence[start:limit]) > size:
        limit -= max(1, (_weight(sentence[start:limit]) - size) // 2)
    for pattern in _LESSER_ENDS:
        ends = [match.end() for match in pattern.finditer(sentence, start, limit)]
        # A comma right at the beginning would leave a crumb; a space is always better than nothing.
        if ends and (pattern is _LESSER_ENDS[-1] or ends[-1] > start + (limit - start) // 3):
            return ends[-1]
    return _cut_between_characters(sentence, start, limit)


def _cut_between_characters(sentence: str, start: int, limit: int) -> int:
    """Cut where no space is near, but not before a mark of a letter nor within a short Latin word."""
    end = limit
    while end > max(start + 1, limit - _LONGEST_WORD) and _belong_together(sentence[end - 1], sentence[end]):
        end -= 1
    return end if not _belong_together(sentence[end - 1], sentence[end]) else limit


def _belong_together(before: str, after: str) -> bool:
    return (
        unicodedata.category(after).startswith("M")
        or after in "\u200d\u200c"
        or before == "\u200d"
        or before in _LEADING_VOWELS
        or (before.isascii() and after.isascii() and before.isalnum() and after.isalnum())
    )


def _weight(text: str) -> int:
    return len(text) if text.isascii() else len(text) + len(_WIDE.findall(text))
