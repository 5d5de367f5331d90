"""Texts cut into XLM-R pieces: the terms of BM25 for languages that have no analyzer."""

import threading
from functools import cache

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.tokenize import FastStartTokenizer, LibraryTokenizer

_lock = threading.Lock()


def cut_into_pieces(texts: list[str]) -> list[list[str]]:
    """The pieces of each text, `▁` at the start of words, without special tokens."""
    folder = find_checkpoint("e5-small").folder
    fast = sum(map(len, texts)) < 20_000 and FastStartTokenizer.fits(folder)
    with _lock:
        tokenizer = _fast() if fast else _library()
    return tokenizer.pieces(texts)


@cache
def _fast() -> FastStartTokenizer:
    return FastStartTokenizer(find_checkpoint("e5-small").folder)


@cache
def _library() -> LibraryTokenizer:
    return LibraryTokenizer(find_checkpoint("e5-small").folder)
