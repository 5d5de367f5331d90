"""Texts cut into XLM-R pieces: the terms of BM25 for languages that have no analyzer."""

from functools import cache
from pathlib import Path

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.tokenize import tokenizer_for


def cut_into_pieces(texts: list[str]) -> list[list[str]]:
    """The pieces of each text, `▁` at the start of words, without special tokens."""
    return tokenizer_for(_folder(), texts).pieces(texts)


@cache
def _folder() -> Path:
    return find_checkpoint("e5-small").folder
