"""Make one ranking of the dense and the BM25 one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError


@dataclass(frozen=True, slots=True)
class Ranking:
    """Documents by row, best first: `rows` (k,) int64 without repeats, `scores` (k,) float32 descending."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def top(self, top_k: int) -> "Ranking":
        """The first `top_k`."""
        return Ranking(self.rows[:top_k], self.scores[:top_k])


EMPTY = Ranking(np.empty(0, np.int64), np.empty(0, np.float32))

UNSEEN = 0.5
"""See `Fusion.unseen`; chosen, with the defaults of `Fusion`, by `benchmarks/fusion.py`."""

_DEFAULTS = {"rrf": 60.0, "minmax": 0.5, "zscore": 0.5}


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the dense and the BM25 ranking are joined.

    BM25 searches documents in the query's language, so it says nothing of the others: that they are not
    in its ranking does not speak against them. They get a share of what they would get if BM25 ranked
    them as the dense leg does. In a collection of one language this changes nothing.

    On the tuning splits of some twenty collections, alone and pooled, nothing was better than the defaults
    in the mean by more than chance (`benchmarks/results/fusion.json`).

    Attributes:
        method: `rrf`, or a weighted sum of scores scaled by `minmax` or `zscore`.
        parameter: the k of `rrf`; the dense leg's weight of the sums, between 0 and 1, which are the legs
            alone.
        unseen: the share, from 0 to 1, for documents that BM25 did not look at.
    """

    method: str = "zscore"
    parameter: float = 0.5
    unseen: float = UNSEEN

    @classmethod
    def parse(cls, text: str, *, unseen: float = UNSEEN) -> "Fusion":
        """Read `rrf`, `rrf:60`, `minmax:0.5` or `zscore:0.5`.

        Raises:
            InputError: the method is unknown or its parameter out of range.
        """
        method, _, number = text.partition(":")
        if method not in _DEFAULTS:
            raise InputError(f"Unknown fusion '{text}'. Choose from: rrf:60, minmax:0.5, zscore:0.5.")
        try:
            parameter = float(number) if number else _DEFAULTS[method]
        except ValueError:
            parameter = -1.0
        if not (0 < parameter < np.inf if method == "rrf" else 0 <= parameter <= 1):
            meaning = "k above 0" if method == "rrf" else "dense leg's weight from 0 to 1"
            raise InputError(f"Fusion '{text}' needs a number after the colon: the {meaning}.")
        return cls(method, parameter, unseen)

    def __str__(self) -> str:
        return f"{self.method}:{self.parameter:g}"

    def fuse(self, dense: Ranking, bm25: Ranking, *, seen: NDArray[np.bool_] | None = None) -> Ranking:
        """Join the two; documents that only one of them found stay in.

        Args:
            dense: its ranking.
            bm25: its ranking.
            seen: (k,) for each document of `dense`, whether BM25 looked at it; by default at all.
        """
        if (alone := self.alone(dense, bm25)) is not None:
            return alone
        weights = (1.0, 1.0) if self.method == "rrf" else (self.parameter, 1.0 - self.parameter)
        by_dense = weights[0] * self._scaled(dense)
        by_bm25 = weights[1] * self._scaled(bm25)
        parts = [(dense.rows, by_dense), (bm25.rows, by_bm25)]
        if seen is not None:
            as_if_seen = weights[1] * self._scaled(dense)[~seen]
            parts.append((dense.rows[~seen], self.unseen * as_if_seen))
        return _sum(parts)

    def alone(self, dense: Ranking, bm25: Ranking) -> Ranking | None:
        """The one leg that counts where the other's weight is 0; None where both count.

        A sum would not do: with a leg that has found little, the worst of it would stand with what the other
        leg has found, in the order of rows. A leg that has found nothing leaves the answer to the other.
        """
        if self.method == "rrf" or 0 < self.parameter < 1:
            return None
        wanted, other = (dense, bm25) if self.parameter else (bm25, dense)
        return wanted if len(wanted.rows) else other

    def _scaled(self, ranking: Ranking) -> NDArray[np.float64]:
        """One leg in numbers that can be added to the other's, best first, never below 0."""
        if self.method == "rrf":
            return reciprocal_ranks(len(ranking.rows), k=self.parameter)
        scale = scale_minmax if self.method == "minmax" else scale_zscore
        return scale(ranking.scores.astype(np.float64)) if len(ranking.rows) else np.empty(0)


def reciprocal_ranks(n: int, *, k: float = 60.0) -> NDArray[np.float64]:
    """`1 / (k + rank)` of the ranks 1 to n; k keeps the first ranks from outweighing all others.

    Cormack, Clarke & Buettcher, 2009, Reciprocal Rank Fusion.
    """
    ranks = np.arange(1, n + 1, dtype=np.float64)
    return np.asarray(1.0 / (k + ranks), np.float64)


def scale_minmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores to 0..1 between the worst and the best of the ranking."""
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread > 0 else np.ones_like(scores)


def scale_zscore(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in standard deviations above the worst of the ranking."""
    deviation = scores.std()
    return (scores - scores.min()) / deviation if deviation > 0 else np.ones_like(scores)


def _sum(parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]) -> Ranking:
    """Add up by document; equal sums are in ascending order of rows."""
    rows, place = np.unique(np.concatenate([rows for rows, _ in parts]), return_inverse=True)
    total = np.zeros(len(rows))
    np.add.at(total, place, np.concatenate([scores for _, scores in parts]))
    order = np.argsort(-total, kind="stable")
    return Ranking(rows[order], total[order].astype(np.float32))
