"""Tell texts that are equal, or nearly so, from texts that only speak of the same."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mretrieve.datasets.plain import plain as plain

NGRAM = 20
"""Characters, without spaces and punctuation, that must be the same in a row to count as common."""

_KEPT_ONE_IN = 4
_PRIME = np.uint64(1_000_003)
_MIX = np.uint64(0x9E3779B97F4A7C15)


def overlap(first: str, second: str) -> float:
    """The share of the shorter text that stands in the other one word for word.

    Estimated from a quarter of the n-grams, always the same ones.

    Returns:
        From 0 to 1; of texts too short for n-grams 1 if they are equal, else 0.
    """
    fewer, more = sorted((_sketch(first), _sketch(second)), key=len)
    if not len(fewer):
        return float(plain(first) == plain(second))
    places = np.minimum(np.searchsorted(more, fewer), len(more) - 1)
    return float(np.mean(more[places] == fewer))


@lru_cache(maxsize=20_000)
def _sketch(text: str) -> NDArray[np.uint64]:
    """Hashes of some of a text's n-grams, chosen by their hash: (n,) uint64, ascending."""
    codes = np.frombuffer(plain(text).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    if len(codes) < NGRAM:
        return np.empty(0, np.uint64)
    hashes = np.zeros(len(codes) - NGRAM + 1, np.uint64)
    for start in range(NGRAM):  # a polynomial of the characters, modulo 2^64
        hashes = hashes * _PRIME + codes[start : start + len(hashes)]
    mixed = hashes * _MIX
    return np.unique(mixed[(mixed >> np.uint64(32)) % np.uint64(_KEPT_ONE_IN) == 0])
