"""Texts cut into XLM-R pieces: the terms of BM25 for languages that have no analyzer."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.tokenize import tokenizer_for


def cut_into_pieces(texts: list[str]) -> list[list[str]]:
    """The pieces of each text, `▁` at the start of words, without special tokens."""
    return tokenizer_for(_folder(), texts).pieces(texts)


def piece_cutter() -> Callable[[list[str]], list[list[str]]]:
    """As `cut_into_pieces`, for a whole collection that comes little by little, language by language."""
    n_before = 0

    def cut(texts: list[str]) -> list[list[str]]:
        nonlocal n_before
        pieces = tokenizer_for(_folder(), texts, n_before=n_before).pieces(texts)
        n_before += sum(map(len, texts))
        return pieces

    return cut


@cache
def _folder() -> Path:
    return find_checkpoint("e5-small").folder
