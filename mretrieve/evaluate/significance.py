"""Tell a real difference between two systems from chance: paired tests over the same questions.

The randomisation test asks how often a difference as large arises when the two systems' values are swapped
at random, question by question (Smucker, Allan & Carterette, 2007); the bootstrap gives the interval of the
difference (Sakai, 2006); Holm's correction keeps many comparisons from finding something by luck.

Questions that are translations of each other are not independent: they go into one `cluster`, which is
swapped or drawn as a whole. Means over languages of unequal size are means of the means of `groups`.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_RESAMPLES = 10_000
SEED = 13

_BLOCK_NUMBERS = 1 << 22  # random numbers drawn at a time: 32 MB as float64

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the second of two systems differs from the first.

    Attributes:
        difference: second minus first.
        low: lower end of the bootstrap interval of the difference.
        high: upper end of it.
        p_value: probability of a difference as large, either way, if the systems were equal.
    """

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class _Cells:
    """Sums and counts of differences by cluster and group, both (n_clusters, n_groups)."""

    sums: Floats
    counts: Floats

    @property
    def shares(self) -> Floats:
        """(n_clusters,): what each cluster adds to the difference of the means."""
        n_groups = self.counts.shape[1]
        shares: Floats = (self.sums / self.counts.sum(axis=0)).sum(axis=1) / n_groups
        return shares


def compare(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
) -> Comparison:
    """Compare two systems by their values on the same questions.

    Args:
        first: (n,) one value a question, such as nDCG@10.
        second: (n,) the other system's values, in the same order.
        groups: (n,) group of each question; the score is the mean of the groups' means. By default all
            questions are one group.
        clusters: (n,) questions with the same cluster belong together. By default each stands for itself.
        confidence: of the interval.
        n_resamples: random draws of the test and of the interval.
        seed: of the draws.

    Returns:
        The difference, its interval and its p-value.

    Raises:
        ValueError: lengths differ, there are no values, a value is not a finite number, or `confidence` or
            `n_resamples` is out of range.
    """
    one, other = _values(first, "first"), _values(second, "second")
    if len(one) != len(other):
        raise ValueError(f"Paired values are needed, but there are {len(one)} and {len(other)}.")
    differences = other - one
    cells = _cells(differences, groups, clusters)
    low, high = bootstrap_interval(
        differences,
        groups=groups,
        clusters=clusters,
        confidence=confidence,
        n_resamples=n_resamples,
        seed=seed,
    )
    p_value = randomisation_test(
        differences, groups=groups, clusters=clusters, n_resamples=n_resamples, seed=seed
    )
    return Comparison(float(cells.shares.sum()), low, high, p_value)


def randomisation_test(
    differences: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
) -> float:
    """Two-sided paired randomisation test of a mean difference of zero.

    Args:
        differences: (n,) one system's value minus the other's, by question.
        groups: as for `compare`.
        clusters: as for `compare`.
        n_resamples: random draws; where there are not more than so many ways to swap, all are tried and the
            result is exact.
        seed: of the draws.

    Returns:
        The p-value; of random draws it is at least 1 / (n_resamples + 1), since the outcome itself is one.

    Raises:
        ValueError: as `compare`.
    """
    shares = _cells(_values(differences, "differences"), groups, clusters).shares
    _check_resamples(n_resamples)
    shares = shares[shares != 0]  # swapping equal values changes nothing
    reached = abs(shares.sum()) - 1e-12 * np.abs(shares).sum()  # equal sums differ in their last digits
    if 1 << len(shares) <= n_resamples:
        every = np.arange(2 ** len(shares))[:, None] >> np.arange(len(shares)) & 1
        return float((np.abs((2 * every - 1) @ shares) >= reached).mean())
    generator = np.random.default_rng(seed)
    as_large = 0
    for size in _blocks(n_resamples, len(shares)):
        swapped = generator.integers(0, 2, (size, len(shares)), dtype=np.uint8).astype(np.float64)
        as_large += int((np.abs(2 * (swapped @ shares) - shares.sum()) >= reached).sum())
    return (as_large + 1) / (n_resamples + 1)


def bootstrap_interval(
    differences: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean difference (or of any mean).

    Args:
        differences: (n,) one system's value minus the other's, by question.
        groups: as for `compare`.
        clusters: as for `compare`.
        confidence: share of the draws' means that lie inside.
        n_resamples: draws of as many clusters as there are, with replacement.
        seed: of the draws.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: as `compare`.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}.")
    _check_resamples(n_resamples)
    cells = _cells(_values(differences, "differences"), groups, clusters)
    n_clusters = len(cells.sums)
    generator = np.random.default_rng(seed)
    means = []
    for size in _blocks(n_resamples, n_clusters):
        drawn = generator.integers(0, n_clusters, (size, n_clusters))
        drawn += np.arange(size)[:, None] * n_clusters
        times = np.bincount(drawn.ravel(), minlength=size * n_clusters).reshape(size, n_clusters)
        sums, counts = times @ cells.sums, times @ cells.counts
        # A small group may be missing from a draw; the mean is then one of the others.
        present = counts > 0
        means.append(np.divide(sums, counts, where=present, out=sums * 0).sum(axis=1) / present.sum(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, 1979): the chance of any false finding stays below alpha.

    Args:
        p_values: one of each comparison.

    Returns:
        Corrected values in the same order, none below its own and none above 1.

    Raises:
        ValueError: a value is not between 0 and 1.
    """
    wrong = [p for p in p_values if not 0 <= p <= 1]
    if wrong:
        raise ValueError(f"p-values are between 0 and 1, got {wrong[0]}.")
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = reached
    return corrected


def _values(given: ArrayLike, name: str) -> Floats:
    values = np.asarray(given, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must be a list of numbers, one a question, and not empty.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds a value that is not a finite number.")
    return values


def _cells(
    differences: Floats, groups: Sequence[Hashable] | None, clusters: Sequence[Hashable] | None
) -> _Cells:
    n = len(differences)
    group, n_groups = _numbers(groups if groups is not None else [0] * n, n, "groups")
    cluster, n_clusters = _numbers(clusters if clusters is not None else range(n), n, "clusters")
    cell = cluster * n_groups + group
    sums, counts = (
        np.asarray(np.bincount(cell, weights, n_clusters * n_groups), np.float64)
        for weights in (differences, np.ones(n))
    )
    return _Cells(sums.reshape(n_clusters, n_groups), counts.reshape(n_clusters, n_groups))


def _numbers(names: Sequence[Hashable], n: int, what: str) -> tuple[NDArray[np.int64], int]:
    """A number from 0 for each name, and how many different ones there are."""
    if len(names) != n:
        raise ValueError(f"{what} must name one for each of {n} questions, got {len(names)}.")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64), len(numbers)


def _check_resamples(n_resamples: int) -> None:
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}.")


def _blocks(n_resamples: int, width: int) -> Iterator[int]:
    """Sizes of the blocks in which draws of so many numbers are made, to bound the memory."""
    size = max(1, _BLOCK_NUMBERS // max(1, width))
    for start in range(0, n_resamples, size):
        yield min(size, n_resamples - start)
