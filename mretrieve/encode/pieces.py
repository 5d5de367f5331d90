"""Texts cut into XLM-R pieces: the terms of BM25 for languages that have no analyzer."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.tokenize import FAST_START_CHARACTERS, tokenizer_for
from mretrieve.encode.word_pieces import word_pieces


def cut_into_pieces(texts: list[str]) -> list[list[str]]:
    """The pieces of each text, `▁` at the start of words, without special tokens."""
    return tokenizer_for(_folder(), texts).pieces(texts)


def piece_cutter() -> Callable[[list[str]], list[list[str]]]:
    """As `cut_into_pieces`, for a whole collection that comes little by little, best as single words."""
    n_before = 0

    def cut(texts: list[str]) -> list[list[str]]:
        nonlocal n_before
        before, n_before = n_before, n_before + sum(map(len, texts))
        found: list[list[str] | None] = [None] * len(texts)
        if n_before > FAST_START_CHARACTERS:
            found = word_pieces(_folder()).cut(texts)
        rest = [text for text, pieces in zip(texts, found, strict=True) if pieces is None]
        others = iter(tokenizer_for(_folder(), rest, n_before=before).pieces(rest) if rest else [])
        return [next(others) if pieces is None else pieces for pieces in found]

    return cut


@cache
def _folder() -> Path:
    return find_checkpoint("e5-small").folder
