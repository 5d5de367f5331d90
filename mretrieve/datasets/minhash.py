"""Find texts that are nearly the same among many millions, by MinHash signatures on the disk.

Broder, 1997: the share of equal minima under random permutations estimates the Jaccard similarity of two
sets, here of the runs of five letters in two texts. Texts that agree in a whole band of their signature are
compared; the bands are sorted one after the other, so memory holds some numbers per text and never a text.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mretrieve.datasets.plain import plain
from mretrieve.errors import MissingDependencyError

PERMUTATIONS = 128
"""Numbers of a signature; the estimate of a similarity of 0.8 has a standard error of 0.035."""

SHINGLE = 5
"""Characters in a row, without spaces and punctuation, whose set stands for a text."""

RECALL = 0.99
"""Probability with which two texts of just the threshold's similarity are compared."""

_AT_ONCE = 4096  # runs of letters hashed together: 2 MB
_PAIRS_AT_ONCE = 1 << 14  # pairs of signatures compared together: 16 MB
_MOST_ROUNDS = 64  # of comparisons with the first text that is left in a band
_PRIME = np.uint64(1_000_003)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_ROW_BITS = np.uint64(32)

Signature = NDArray[np.uint32]


def signer() -> Callable[[str], Signature]:
    """Make the function text -> (PERMUTATIONS,) uint32, equal for texts that are equal in `plain` form.

    Raises:
        MissingDependencyError: datasketch is not installed.
    """
    try:
        from datasketch import MinHash
    except ImportError as error:
        raise MissingDependencyError(
            "Near duplicates need datasketch, which is not installed: `pip install 'mretrieve[dedup]'`, "
            "or use --dedup exact."
        ) from error
    empty = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=int, scheme="affine32")

    def sign(text: str) -> Signature:
        one = empty.copy()
        hashes = _shingles(text)
        for start in range(0, len(hashes), _AT_ONCE):
            one.update_batch(hashes[start : start + _AT_ONCE].tolist())
        return np.asarray(one.hashvalues, np.uint32)

    return sign


def _shingles(text: str) -> NDArray[np.uint32]:
    """Hashes of a text's different runs of letters: (n,) uint32; of a shorter text one of the whole."""
    codes = np.frombuffer(plain(text).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    length = min(SHINGLE, len(codes))
    hashes = np.zeros(len(codes) - length + 1, np.uint64)
    for start in range(length):  # a polynomial of the characters, modulo 2^64
        hashes = hashes * _PRIME + codes[start : start + len(hashes)]
    return np.unique(((hashes * _MIX) >> np.uint64(32)).astype(np.uint32))


def rows_per_band(threshold: float) -> int:
    """As many as leave two texts of this similarity together in some band with probability `RECALL`.

    More rows mean fewer comparisons of texts that are not alike.
    """

    def found(rows: int) -> float:
        return float(1 - (1 - threshold**rows) ** (PERMUTATIONS // rows))

    return max((rows for rows in range(1, 17) if found(rows) >= RECALL), default=1)


class Signatures:
    """Signatures of texts, written one after the other and then compared.

    Args:
        folder: an empty folder for them: 512 bytes a text, and 8 for each band.
        threshold: similarity, from 0 to 1, from which on two texts count as nearly the same.
    """

    def __init__(self, folder: Path, *, threshold: float) -> None:
        self.threshold = threshold
        self.rows = rows_per_band(threshold)
        self._paths = [folder / f"band-{band:02d}.u64" for band in range(PERMUTATIONS // self.rows)]
        self._signatures = folder / "signatures.u32"
        self._files: list[BinaryIO] = [open(path, "wb") for path in (self._signatures, *self._paths)]

    def add(self, signatures: Sequence[Signature], keys: Sequence[int]) -> None:
        """Append texts.

        Args:
            signatures: one for each text.
            keys: texts of different keys (below 2^64) are never compared.
        """
        block = np.stack(signatures)  # (n, PERMUTATIONS)
        self._files[0].write(block.tobytes())
        salt = np.array(keys, np.uint64)
        for band, file in enumerate(self._files[1:]):
            hashes = salt.copy()
            for column in range(band * self.rows, (band + 1) * self.rows):
                hashes = (hashes ^ block[:, column]) * _MIX
                hashes ^= hashes >> np.uint64(29)
            file.write(hashes.tobytes())

    def close(self) -> None:
        """End the writing; called twice it does nothing more."""
        for file in self._files:
            file.close()

    def similarity(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
        """Estimated Jaccard similarity of pairs of texts by number: (n,), (n,) -> (n,)."""
        values = self._stored()
        parts = [np.empty(0)]
        for start in range(0, len(first), _PAIRS_AT_ONCE):
            some = slice(start, start + _PAIRS_AT_ONCE)
            parts.append(np.mean(values[first[some]] == values[second[some]], axis=1))
        return np.concatenate(parts)

    def mark(self, origin: NDArray[np.int64]) -> None:
        """Find texts that are nearly the same as an earlier one that stays.

        Args:
            origin: (n,) for each text -1, or the earlier text that it is a copy of; those that are found
                are written into it. A text that others are copies of is never a copy itself.
        """
        self.close()
        while len(kept := np.flatnonzero(origin < 0)) > 1:
            pairs = np.empty(0, np.uint64)
            for path in self._paths:
                hashes = np.fromfile(path, np.uint64)[kept]
                pairs = np.union1d(pairs, np.fromiter(self._near_pairs(hashes, kept), np.uint64))
            found = 0
            for pair in pairs.tolist():  # by the later text, so the earlier one's fate is known
                later, earlier = pair >> 32, pair & 0xFFFFFFFF
                if origin[later] < 0 and origin[earlier] < 0:
                    origin[later] = earlier
                    found += 1
            if not found:
                return

    def _stored(self) -> NDArray[np.uint32]:
        n = os.path.getsize(self._signatures) // (4 * PERMUTATIONS)
        return np.memmap(self._signatures, np.uint32, "r", shape=(n, PERMUTATIONS))

    def _near_pairs(self, hashes: NDArray[np.uint64], rows: NDArray[np.int64]) -> Iterator[int]:
        """Pairs (later row << 32 | earlier row) among texts with the same hash.

        Each is compared with the first text of its bucket; those that are not near to it go on to the
        next round, in which they are a bucket of their own.
        """
        order = np.argsort(hashes, kind="stable")  # within a bucket the rows ascend
        members, buckets = rows[order], hashes[order]
        for _ in range(_MOST_ROUNDS):
            new = np.ones(len(buckets), bool)
            new[1:] = buckets[1:] != buckets[:-1]
            first = members[np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))]
            members, buckets, first = members[~new], buckets[~new], first[~new]
            if not len(members):
                return
            near = self.similarity(first, members) >= self.threshold
            later, earlier = members[near].astype(np.uint64), first[near].astype(np.uint64)
            yield from ((later << _ROW_BITS) | earlier).tolist()
            members, buckets = members[~near], buckets[~near]
