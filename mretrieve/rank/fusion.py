"""Make one ranking of the dense and the BM25 one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the dense and the BM25 ranking are joined.

    Attributes:
        method: `rrf`, or a weighted sum of scores scaled by `minmax` or `zscore`.
        parameter: the k of `rrf`; the dense leg's weight of the sums, between 0 and 1.
    """

    method: str = "rrf"
    parameter: float = 60.0

    @classmethod
    def parse(cls, text: str) -> "Fusion":
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
        if not (parameter > 0 if method == "rrf" else 0 <= parameter <= 1):
            meaning = "k above 0" if method == "rrf" else "dense leg's weight from 0 to 1"
            raise InputError(f"Fusion '{text}' needs a number after the colon: the {meaning}.")
        return cls(method, parameter)

    def __str__(self) -> str:
        return f"{self.method}:{self.parameter:g}"

    def fuse(self, dense: Ranking, bm25: Ranking) -> Ranking:
        """Join the two; documents that only one of them found stay in."""
        if self.method == "rrf":
            return reciprocal_rank_fusion([dense, bm25], k=self.parameter)
        weights = [self.parameter, 1.0 - self.parameter]
        return weighted_sum([dense, bm25], weights=weights, scale=_SCALES[self.method])


def reciprocal_rank_fusion(rankings: Sequence[Ranking], *, k: float = 60.0) -> Ranking:
    """Score each document by the sum of `1 / (k + rank)` over the rankings that hold it.

    Cormack, Clarke & Buettcher, 2009, Reciprocal Rank Fusion.

    Args:
        rankings: any number of them.
        k: keeps the first ranks from outweighing all others.

    Returns:
        All documents; equal scores are in ascending order of rows.
    """
    return _sum([(ranking.rows, 1.0 / (k + 1.0 + np.arange(len(ranking.rows)))) for ranking in rankings])


def weighted_sum(
    rankings: Sequence[Ranking],
    *,
    weights: Sequence[float],
    scale: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Ranking:
    """Score each document by the weighted sum of its scaled scores.

    Scaled scores are at least 0, and a document that a ranking lacks counts 0 there: it is taken to be
    as good as the last one that the ranking holds.

    Args:
        rankings: any number of them.
        weights: one each.
        scale: scores of one ranking to numbers that can be compared between rankings.

    Returns:
        All documents; equal scores are in ascending order of rows.
    """
    pairs = zip(rankings, weights, strict=True)
    return _sum([(r.rows, weight * scale(r.scores.astype(np.float64))) for r, weight in pairs if len(r.rows)])


def scale_minmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores to 0..1 between the worst and the best of the ranking."""
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread > 0 else np.ones_like(scores)


def scale_zscore(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in standard deviations above the worst of the ranking."""
    deviation = scores.std()
    return (scores - scores.min()) / deviation if deviation > 0 else np.ones_like(scores)


_DEFAULTS = {"rrf": 60.0, "minmax": 0.5, "zscore": 0.5}
_SCALES = {"minmax": scale_minmax, "zscore": scale_zscore}


def _sum(parts: Sequence[tuple[NDArray[np.int64], NDArray[Any]]]) -> Ranking:
    if not parts:
        return EMPTY
    rows, place = np.unique(np.concatenate([rows for rows, _ in parts]), return_inverse=True)
    total = np.zeros(len(rows))
    np.add.at(total, place, np.concatenate([scores for _, scores in parts]))
    order = np.argsort(-total, kind="stable")
    return Ranking(rows[order], total[order].astype(np.float32))
