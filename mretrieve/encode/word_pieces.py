"""Cut many words at once into the pieces of a Unigram vocabulary, as the library `tokenizers` would.

Kudo, 2018 (arXiv:1804.10959): the segmentation of highest probability, by Viterbi's algorithm, here with
numpy for thousands of words side by side, in some third of the library's time. Words with a character that
the normaliser changes are left to it, and the few others of which this cannot be sure to cut them as it does.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve.models.unigram import METASPACE, UNIGRAM_REST, UNIGRAM_TABLE, UNIGRAM_TRIE

_WIDTHS = (4, 6, 8, 10, 13, 17, 24, 33)
"""Words are computed together with others up to the same of these lengths, `▁` counted."""

_WORD_END, _PIECE_END = "\0", "\1"
_NOT_PLAIN = {METASPACE, _WORD_END, _PIECE_END, " "}
_AT_ONCE = 8192  # words: tables of some MB, which caches hold
_BITS = 20  # of the hash table's size
_STEP = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int32]


class WordPieces:
    """Cuts words; safe to use from several threads.

    Args:
        pieces: of the vocabulary, without the special ones.
        scores: (n,) log-probability of each.
        unknown_score: of a character that no piece holds.
        refused: characters that the normaliser changes, or that may begin a special piece.
    """

    def __init__(
        self, pieces: Sequence[str], scores: NDArray[np.float32], unknown_score: float, *, refused: set[str]
    ) -> None:
        self._scores = np.append(scores.astype(np.float64), -np.inf)
        self._unknown_score = unknown_score
        self._longest = max(map(len, pieces))
        self._keys = np.append(_hashes_of(pieces), np.uint64(0))
        self._first, self._next = _chains(self._keys[:-1])
        alone = {piece for piece in pieces if len(piece) == 1}
        held = set().union(*pieces)
        self._is_plain = np.ones(0x110000, bool)
        self._is_plain[[ord(one) for one in (held - alone) | refused | _NOT_PLAIN]] = False

    @classmethod
    def open(cls, folder: Path) -> "WordPieces":
        """Read the files of `mretrieve.models.unigram.write_unigram`."""
        import marisa_trie

        trie = marisa_trie.Trie()
        trie.mmap(str(folder / UNIGRAM_TRIE))
        pieces = trie.keys()
        scores = np.load(folder / UNIGRAM_TABLE)["score"][[trie[piece] for piece in pieces]]
        rest = json.loads((folder / UNIGRAM_REST).read_text(encoding="utf-8"))
        refused = {*map(chr, map(int, rest["normalizer"])), "<"}
        return cls(pieces, scores, rest["unknown_score"], refused=refused)

    def cut(self, words: Sequence[str]) -> list[list[str] | None]:
        """The pieces of each word, `▁` before the first; None for those that are not for this to cut."""
        found: list[list[str] | None] = [None] * len(words)
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        shortest = 1
        for width in _WIDTHS:
            numbers = np.flatnonzero((lengths >= shortest) & (lengths < width))
            for start in range(0, len(numbers), _AT_ONCE):
                self._cut_some(words, numbers[start : start + _AT_ONCE], width, found)
            shortest = width
        return found

    def _cut_some(
        self, words: Sequence[str], numbers: NDArray[np.int64], width: int, found: list[list[str] | None]
    ) -> None:
        """Cut words of less than `width` characters."""
        chosen = [words[number] for number in numbers.tolist()]
        text = "".join([METASPACE + word.ljust(width - 1, "\0") for word in chosen])
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        points = points.reshape(len(chosen), width)
        ends = np.fromiter(map(len, chosen), np.int64, len(chosen)) + 1
        plain = self._is_plain[points].sum(axis=1) == ends - 1  # `▁` and the filling are not
        if not plain.all():
            points, numbers, ends = points[plain], numbers[plain], ends[plain]
            chosen = [words[number] for number in numbers.tolist()]
        if not chosen:
            return
        is_start = self._starts(np.ascontiguousarray(points.T), ends)
        for number, word in zip(numbers.tolist(), _written(points, is_start, ends), strict=True):
            found[number] = word.split(_PIECE_END)

    def _starts(self, points: NDArray[np.uint32], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n_words, width): where pieces begin in words, (width, n_words), that end at `ends`."""
        width, n_words = points.shape
        scores = self._scores_of_parts(points)
        best = np.full((width + 1, n_words), -np.inf)
        best[0] = 0.0
        size = np.zeros((width + 1, n_words), np.int8)  # of the piece that ends here
        for end in range(1, width + 1):
            for length in range(min(end, self._longest), 0, -1):  # the longest of equals, as the library
                score = best[end - length] + scores[length - 1][end - length]
                better = score > best[end]
                np.copyto(best[end], score, where=better)
                np.copyto(size[end], length, where=better)
        is_start = np.zeros((n_words, width), bool)
        columns, place = np.arange(n_words), ends
        while len(columns):
            place = place - size[place, columns]
            is_start[columns, place] = True
            columns, place = columns[place > 0], place[place > 0]
        return is_start

    def _scores_of_parts(self, points: NDArray[np.uint32]) -> list[NDArray[np.float64]]:
        """For each length from 1, (width - length + 1, n_words): scores of the parts, -inf for no piece."""
        letters = points.astype(np.uint64)
        hashes, scores = np.zeros_like(letters), []
        for length in range(1, min(self._longest, len(points)) + 1):
            hashes = hashes[: len(points) - length + 1] * _STEP + letters[length - 1 :]
            scores.append(self._scores.take(self._find(hashes), mode="wrap"))
        np.maximum(scores[0], self._unknown_score, out=scores[0])
        return scores

    def _find(self, hashes: Hashes) -> Numbers:
        """Numbers of pieces with these hashes, -1 for none."""
        flat = hashes.reshape(-1)
        found = self._first.take(_slots(flat))
        other = np.flatnonzero((self._keys.take(found, mode="wrap") != flat) & (found >= 0))
        while len(other):
            following = self._next.take(found[other])
            found[other] = following
            still = (following >= 0) & (self._keys.take(following, mode="wrap") != flat[other])
            other = other[still]
        return found.reshape(hashes.shape)


def _written(points: NDArray[np.uint32], is_start: NDArray[np.bool_], ends: NDArray[np.int64]) -> list[str]:
    """Words, (n_words, width) up to `ends`, with `_PIECE_END` between their pieces."""
    inside = points != 0
    letters, starts = points[inside], is_start[inside]
    places = np.arange(len(letters)) + np.cumsum(starts)
    text = np.full(len(letters) + starts.sum(), ord(_PIECE_END), np.uint32)
    text[places] = letters
    text[places[np.cumsum(ends) - ends] - 1] = ord(_WORD_END)
    return text.tobytes().decode("utf-32-le").split(_WORD_END)[1:]


@cache
def word_pieces(folder: Path) -> WordPieces:
    """`WordPieces.open`, once for each folder."""
    return WordPieces.open(folder)


def _hashes_of(pieces: Sequence[str]) -> Hashes:
    hashes = np.zeros(len(pieces), np.uint64)
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    for length in np.unique(lengths).tolist():
        numbers = np.flatnonzero(lengths == length)
        text = "".join([pieces[number] for number in numbers.tolist()])
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32).reshape(-1, length)
        part = np.zeros(len(numbers), np.uint64)
        for column in points.T.astype(np.uint64):
            part = part * _STEP + column
        hashes[numbers] = part
    return hashes


def _slots(hashes: Hashes) -> NDArray[np.int64]:
    slots = hashes * _SPREAD
    slots >>= np.uint64(64 - _BITS)
    return slots.view(np.int64)


def _chains(keys: Hashes) -> tuple[Numbers, Numbers]:
    """A hash table: (2 ** _BITS,) the first key of each slot, (n + 1,) the next one in it; -1 for none."""
    slots = _slots(keys)
    order = np.argsort(slots, kind="stable").astype(np.int32)
    is_first = np.append(True, np.diff(slots[order]) != 0)
    first = np.full(1 << _BITS, -1, np.int32)
    first[slots[order[is_first]]] = order[is_first]
    following = np.full(len(keys) + 1, -1, np.int32)
    following[order[:-1]] = np.where(is_first[1:], -1, order[1:])
    return first, following
