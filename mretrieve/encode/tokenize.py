"""Text to token ids.

Two readers of the same tokenizer: `FastStartTokenizer` opens memory-mapped files in milliseconds and is
right for a few texts; `LibraryTokenizer` is the Rust library `tokenizers`, which takes most of a second
to load a 250,000-piece vocabulary and is then the faster one. A test holds them equal.
"""

import json
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mretrieve.models.unigram import METASPACE, UNIGRAM_REST, UNIGRAM_TABLE, UNIGRAM_TRIE

LONGEST_PIECE = 64  # characters; XLM-R's longest has 48

REMEMBERED_WORDS, LONGEST_REMEMBERED = 20_000, 24
"""Words whose pieces are kept, and the characters that they may have: half of all text is common words."""


class Tokenizer(Protocol):
    """What the encoder needs of a tokenizer."""

    def encode_batch(self, texts: Sequence[str], *, max_length: int) -> list[NDArray[np.int32]]:
        """Ids of each text with its special tokens, cut to `max_length` tokens."""
        ...

    def pieces(self, texts: Sequence[str]) -> list[list[str]]:
        """The pieces of each text, without special tokens."""
        ...


class LibraryTokenizer:
    """Any `tokenizer.json`, through the library `tokenizers`; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as RustTokenizer

        self._tokenizer = RustTokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()  # a setting that threads would share, so texts are cut here
        special = self._tokenizer.encode("a").special_tokens_mask
        self._n_last = special[::-1].index(0) if 0 in special else 0

    def encode_batch(self, texts: Sequence[str], *, max_length: int) -> list[NDArray[np.int32]]:
        """Ids of each text with its special tokens, cut to `max_length` tokens."""
        if len(texts) == 1:  # which a batch would hand over to another thread and wait for
            encodings = [self._tokenizer.encode(texts[0])]
        else:
            encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [self._cut(encoding.ids, max_length) for encoding in encodings]

    def pieces(self, texts: Sequence[str]) -> list[list[str]]:
        """The pieces of each text, without special tokens."""
        # `encode_batch_fast` leaves the pieces' text out.
        return [e.tokens for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def _cut(self, ids: list[int], max_length: int) -> NDArray[np.int32]:
        """The first tokens, and the special ones at the end that every text has."""
        if len(ids) > max_length:
            ids = ids[: max_length - self._n_last] + ids[len(ids) - self._n_last :]
        return np.array(ids, np.int32)


class FastStartTokenizer:
    """A Unigram tokenizer over memory-mapped files (`mretrieve.models.unigram.write_unigram`).

    Kudo, 2018 (arXiv:1804.10959): the segmentation of highest probability, by Viterbi's algorithm.
    """

    def __init__(self, folder: Path) -> None:
        import marisa_trie

        self._trie = marisa_trie.Trie()
        self._trie.mmap(str(folder / UNIGRAM_TRIE))
        self._table = np.load(folder / UNIGRAM_TABLE, mmap_mode="r")
        rest = json.loads((folder / UNIGRAM_REST).read_text(encoding="utf-8"))
        self._normalizer = {int(point): text for point, text in rest["normalizer"].items()}
        self._special = rest["special"]
        self._unknown_score = rest["unknown_score"]
        self._remember = lru_cache(REMEMBERED_WORDS)(self._find_segments)

    @staticmethod
    def fits(folder: Path) -> bool:
        """Whether the folder holds the files that this reader needs."""
        return (folder / UNIGRAM_REST).is_file()

    def encode_batch(self, texts: Sequence[str], *, max_length: int) -> list[NDArray[np.int32]]:
        """Ids of each text with its special tokens, cut to `max_length` tokens."""
        bos, eos = self._special["bos"], self._special["eos"]
        return [np.array([bos, *self._ids(text)[: max_length - 2], eos], np.int32) for text in texts]

    def pieces(self, texts: Sequence[str]) -> list[list[str]]:
        """The pieces of each text, without special tokens."""
        return [
            [word[start:end] for word in self._words(text) for start, end, _ in self._segment(word)]
            for text in texts
        ]

    def _ids(self, text: str) -> list[int]:
        return [number for word in self._words(text) for _, _, number in self._segment(word)]

    def _words(self, text: str) -> list[str]:
        """The normalised text cut at its spaces, which pieces never cross."""
        text = text.translate(self._normalizer)
        while "  " in text:
            text = text.replace("  ", " ")
        if not text:
            return []
        words = (text if text.startswith(" ") else " " + text).split(" ")[1:]
        return [METASPACE + word for word in words]

    def _segment(self, word: str) -> list[tuple[int, int, int]]:
        """(start, end, id) of each piece of the likeliest segmentation."""
        # What is longer is a whole sentence of an unspaced script, which comes once.
        return self._remember(word) if len(word) <= LONGEST_REMEMBERED else self._find_segments(word)

    def _find_segments(self, word: str) -> list[tuple[int, int, int]]:
        best = [0.0] + [-np.inf] * len(word)
        back: list[tuple[int, int]] = [(0, 0)] * (len(word) + 1)  # (start, id) of the piece ending here
        unknown = self._special["unk"]
        for start in range(len(word)):
            for piece, key in self._trie.iter_prefixes_with_ids(word[start : start + LONGEST_PIECE]):
                number, piece_score = self._table[key].item()
                score = best[start] + piece_score
                if score > best[start + len(piece)]:
                    best[start + len(piece)] = score
                    back[start + len(piece)] = (start, number)
            if best[start] + self._unknown_score > best[start + 1]:
                best[start + 1] = best[start] + self._unknown_score
                back[start + 1] = (start, unknown)
        found = []
        end = len(word)
        while end:
            start, number = back[end]
            found.append((start, end, number))
            end = start
        return found[::-1]


FAST_START_CHARACTERS = 20_000
"""Up to this much text the tokenizer that opens at once is done before the other one has loaded."""


def tokenizer_for(folder: Path, texts: Sequence[str], *, n_before: int = 0) -> Tokenizer:
    """The reader that is right for this much text; the library's always once it is loaded.

    Args:
        folder: of the model.
        texts: to be read now.
        n_before: characters that were read before in the same work.
    """
    little = n_before + sum(map(len, texts)) <= FAST_START_CHARACTERS and folder not in _loaded
    if little and FastStartTokenizer.fits(folder):
        return _fast_start(folder)
    return _library(folder)


_loading = Lock()
_loaded: dict[Path, LibraryTokenizer] = {}
"""Once each: a vocabulary of 250,000 pieces takes 300 MB."""


def _library(folder: Path) -> LibraryTokenizer:
    with _loading:
        if folder not in _loaded:
            _loaded[folder] = LibraryTokenizer(folder)
        return _loaded[folder]


@cache
def _fast_start(folder: Path) -> FastStartTokenizer:
    return FastStartTokenizer(folder)
