"""Texts as the pieces of a vocabulary, written with spaces between for Lucene to split again."""

from collections.abc import Callable, Sequence

from mretrieve.index.segment import piece_terms

Cut = Callable[[list[str]], list[list[str]]]
"""n texts -> the pieces of each, of a multilingual SentencePiece vocabulary in which `▁` begins a word."""

Join = Callable[[Sequence[str]], list[str]]
"""n texts -> the pieces of each with spaces between."""

_LONGEST_KNOWN = 32  # characters of words that are worth keeping
_MOST_KNOWN = 1 << 18  # words: some 60 MB


def join_pieces(texts: Sequence[str], cut: Cut) -> list[str]:
    """The terms of each text (`segment.piece_terms`) with spaces between.

    Args:
        texts: of any length.
        cut: see `Cut`.
    """
    # The vocabulary tells upper from lower case, which a search should not.
    pieces = cut([whole(text).lower() for text in texts])
    return [" ".join(piece_terms(one)) for one in pieces]


class PieceMemory:
    """As `join_pieces`, but each word is cut once only: pieces never cross a space, and words come again."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._known: dict[str, str] = {}

    def join(self, texts: Sequence[str]) -> list[str]:
        """The terms of each text with spaces between."""
        known = self._known
        if len(known) > _MOST_KNOWN:
            known.clear()
        words = [text.lower().split(" ") for text in texts]
        new = list({word for one in words for word in one}.difference(known))
        known.update(zip(new, join_pieces(new, self._cut), strict=True))
        joined = [" ".join([terms for word in one if (terms := known[word])]) for one in words]
        for word in new:  # such as the sentences of languages without spaces
            if len(word) > _LONGEST_KNOWN:
                del known[word]
        return joined


def whole(text: str) -> str:
    """Halves of a UTF-16 pair, which broken JSON may hold, are no characters: put U+FFFD for them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
