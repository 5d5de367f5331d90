"""Cut texts into sentences, and put what was made of them together again."""

import re
from collections.abc import Sequence

_CLOSING = r"[\"'”’»)\]」』›]*"
_END = re.compile(
    # White space after a mark that ends a sentence and what closes it. Not after a letter that stands alone,
    # an initial, and not where the next word goes on in lower case.
    rf"(?<!\b[^\W\d_])[.!?…։؟۔।॥]+{_CLOSING}\s+(?![a-zß-öø-ÿа-яα-ω])"
    # Chinese and Japanese marks need no space after them.
    rf"|[。！？｡]+{_CLOSING}\s*"
    # Lines end sentences too.
    r"|\s*\n\s*"
)


def split_sentences(text: str) -> list[tuple[str, str]]:
    """Cut a text into sentences.

    Args:
        text: in any language. Thai, Lao, Khmer and Burmese do not mark where sentences end: there
            a paragraph is one.

    Returns:
        Each sentence and the white space after it; put together they are the text, save for white space at
        its start.
    """
    pieces = []
    start = 0
    text = text.lstrip()
    for end in _END.finditer(text):
        piece = text[start : end.end()]
        sentence = piece.rstrip()
        if sentence:
            pieces.append((sentence, piece[len(sentence) :]))
        start = end.end()
    if rest := text[start:].rstrip():
        pieces.append((rest, text[start + len(rest) :]))
    return pieces


def join_sentences(sentences: Sequence[str], pieces: Sequence[tuple[str, str]], *, spaces: bool) -> str:
    """Put translated sentences together as their sources were.

    Args:
        sentences: one translation for each piece.
        pieces: as `split_sentences` gave them.
        spaces: whether the target language puts spaces between sentences.
    """
    joined = []
    for sentence, (_, gap) in zip(sentences, pieces, strict=True):
        joined += [sentence, gap if "\n" in gap else " " if spaces else ""]
    return "".join(joined).strip()


def has_spaces(lang: str) -> bool:
    """Whether a language puts spaces between sentences."""
    return lang not in ("ja", "yue", "zh")
