"""Find the cheapest search parameters that reach a recall, measured against exact search."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.index.faiss import DenseIndex, load_faiss
from mretrieve.index.manifest import MANIFEST, read_manifest

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
OnProgress = Callable[[str, int, int | None], None]

DEPTHS = (1, 2, 4, 8, 16, 32, 64)
"""Candidates that are scored again, as multiples of the hits wanted."""

GRAPH_EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)
"""Widths of the search of a graph."""

SEED = 13
_SMALL_GAIN = 0.0005  # of recall, below which more effort is not tried
_BLOCK = 65_536  # vectors compared at once: 100 MB at 384 dimensions
_TRIES = 2  # of which the faster counts


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of parameters: `milliseconds` per query, of all queries searched together."""

    search: str
    recall: float
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was measured, and what came of it.

    Attributes:
        factory: of the index.
        vectors: in the index.
        queries: that were asked.
        top_k: hits that recall is taken of.
        target: recall wanted.
        exact_milliseconds: per query of comparing all vectors.
        points: what was tried, in this order.
        chosen: the fastest that reaches the target; None where none does.
    """

    factory: str
    vectors: int
    queries: int
    top_k: int
    target: float
    exact_milliseconds: float
    points: tuple[Point, ...]
    chosen: Point | None

    def to_dict(self) -> dict[str, object]:
        """All of it as a plain dictionary, for JSON."""
        return asdict(self)

    def frontier(self) -> list[Point]:
        """Points that no other beats in both recall and time, the fastest first."""
        best, kept = -1.0, []
        for point in sorted(self.points, key=lambda one: (one.milliseconds, -one.recall)):
            if point.recall > best:
                best = point.recall
                kept.append(point)
        return kept


@dataclass(frozen=True, slots=True)
class HeldQueries:
    """Queries to measure by, and their nearest vectors.

    Attributes:
        vectors: (n, dim) float32.
        exact: (n, top_k) int64, rows by exact search, best first.
        own: (n,) int64, the row that a query is itself, which is no hit; None for real queries.
        exact_milliseconds: per query.
    """

    vectors: Vectors
    exact: Rows
    own: Rows | None
    exact_milliseconds: float

    def recall(self, rows: Rows) -> float:
        """Mean share of the exact hits among found ones, (n, top_k or one more)."""
        found = without_own(rows, self.own, self.exact.shape[1])
        return float(
            np.mean([np.isin(mine, one).mean() for mine, one in zip(self.exact, found, strict=True)])
        )


def hold_queries(
    dense: DenseIndex,
    *,
    queries: Vectors | None = None,
    n_queries: int = 1000,
    top_k: int = 10,
    vectors: Vectors | None = None,
    on_progress: OnProgress | None = None,
) -> HeldQueries:
    """Search exactly for queries, or for documents of the index in their stead.

    Args:
        dense: the index.
        queries: (n, dim) float32; by default `n_queries` documents at random, the same each time.
        n_queries: documents to take, at most.
        top_k: hits per query.
        vectors: (len(dense), dim) all documents as they were encoded, memory-mapped or not; by default as
            the index holds them. An index that holds codes only is then compared with its own codes.
        on_progress: told of "exact search" and the vectors compared.

    Raises:
        InputError: the shapes do not fit, or the index is too small.
    """
    n_all, own = len(dense), None
    if vectors is not None and vectors.shape != (n_all, dense.dim):
        raise InputError(
            f"Vectors of shape {vectors.shape} do not fit an index of {n_all:,} vectors of {dense.dim} "
            "dimensions: give those of all its documents, in its order."
        )

    def get(rows: Rows) -> Vectors:
        return dense.vectors(rows) if vectors is None else np.ascontiguousarray(vectors[rows], np.float32)

    if queries is None:
        own = np.sort(np.random.default_rng(SEED).choice(n_all, size=min(n_queries, n_all), replace=False))
        queries = get(own)
    n_more = 0 if own is None else 1
    if n_all < top_k + n_more:
        raise InputError(f"The index has {n_all:,} vectors, too few to take recall of {top_k} hits.")
    if not len(queries):
        raise InputError("There are no queries to measure recall by.")
    start = time.perf_counter()
    rows = _exact(queries, n_all, get, top_k + n_more, on_progress)
    spent = (time.perf_counter() - start) * 1000 / len(queries)
    return HeldQueries(queries, without_own(rows, own, top_k), own, spent)


def tune_search(
    dense: DenseIndex,
    held: HeldQueries,
    *,
    recall: float,
    factory: str = "",
    on_progress: OnProgress | None = None,
) -> Tuned:
    """Try search parameters from cheap to dear, and choose the fastest that reaches a recall.

    Args:
        dense: the index, which is left with the last parameters tried.
        held: what to measure by.
        recall: wanted, above 0, at most 1.
        factory: of the index, for the report.
        on_progress: told of "settings" and how many were tried.

    Raises:
        InputError: `recall` is out of range.
    """
    if not 0 < recall <= 1:
        raise InputError(f"--recall should be above 0 and at most 1, not {recall}.")
    names, n_lists = dense.search_parameters()
    points: list[Point] = []
    best_of_depth: list[float] = []
    for depth in DEPTHS if "k_factor_rf" in names else (None,):
        of_depth: list[Point] = []
        for effort in _efforts(names, n_lists):
            of_depth.append(_measure(dense, held, _parameters(names, depth, effort)))
            points.append(of_depth[-1])
            if on_progress is not None:
                on_progress("settings", len(points), None)
            if _is_enough(of_depth, recall):
                break
        best_of_depth.append(max(point.recall for point in of_depth))
        if any(after - before < _SMALL_GAIN for before, after in pairwise(best_of_depth[-2:])):
            break
    reaching = [point for point in points if point.recall >= recall]
    return Tuned(
        factory=factory,
        vectors=len(dense),
        queries=len(held.vectors),
        top_k=held.exact.shape[1],
        target=recall,
        exact_milliseconds=held.exact_milliseconds,
        points=tuple(points),
        chosen=min(reaching, key=lambda point: point.milliseconds, default=None),
    )


def write_search(path: Path, search: str) -> None:
    """Write search parameters into an index's manifest, in one act; open readers see another generation.

    Raises:
        InputError: the index has no dense part, cannot be written, or another process builds it.
    """
    with files.storage_errors(path), files.locked(path):
        manifest = read_manifest(path)
        if manifest.dense is None:
            raise InputError(f"{path} has no dense part, so there is nothing to tune.")
        tuned = replace(manifest, dense=replace(manifest.dense, search=search))
        with files.atomic_file(path / MANIFEST) as file:
            file.write(tuned.to_json().encode())


def without_own(rows: Rows, own: Rows | None, top_k: int) -> Rows:
    """(n, top_k) of (n, top_k + 1) rows: without the query's own, or the last where that is not found."""
    if own is None:
        return rows[:, :top_k]
    last = np.argsort(rows == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(rows, last, axis=1)[:, :top_k]


def _exact(
    queries: Vectors, n_all: int, get: Callable[[Rows], Vectors], top_k: int, on_progress: OnProgress | None
) -> Rows:
    faiss = load_faiss()
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, n_all, _BLOCK):
        some = np.arange(start, min(start + _BLOCK, n_all))
        new_scores, places = faiss.knn(
            queries, get(some), min(top_k, len(some)), metric=faiss.METRIC_INNER_PRODUCT
        )
        scores = np.concatenate([scores, new_scores], axis=1)
        rows = np.concatenate([rows, places + start], axis=1)
        order = np.lexsort((rows, -scores), axis=1)[:, :top_k]
        scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
        if on_progress is not None:
            on_progress("exact search", start + len(some), n_all)
    return rows


def _measure(dense: DenseIndex, held: HeldQueries, search: str) -> Point:
    dense.set_search(search)
    n_wanted = held.exact.shape[1] + (held.own is not None)
    spent = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        _, rows = dense.search(held.vectors, n_wanted)
        spent.append(time.perf_counter() - start)
    return Point(search, held.recall(rows), min(spent) * 1000 / len(held.vectors))


def _efforts(names: list[str], n_lists: int) -> Iterator[int | None]:
    if "nprobe" in names:
        yield from (2**power for power in range(n_lists.bit_length()) if 2**power <= n_lists)
    elif "efSearch" in names:
        yield from GRAPH_EFFORTS
    else:
        yield None


def _parameters(names: list[str], depth: int | None, effort: int | None) -> str:
    """Parameters in FAISS's words; the graph of an index's centroids is searched twice as wide as probed."""
    chosen: dict[str, int] = {}
    if effort is not None and "nprobe" in names:
        chosen["nprobe"] = effort
        if "quantizer_efSearch" in names:
            chosen["quantizer_efSearch"] = max(16, 2 * effort)
    elif effort is not None:
        chosen["efSearch"] = effort
    if depth is not None:
        chosen["k_factor_rf"] = depth
    return ",".join(f"{name}={value}" for name, value in chosen.items())


def _is_enough(points: list[Point], recall: float) -> bool:
    """Whether dearer settings need not be tried: the target is passed, or recall has ceased to grow."""
    if len(points) > 1 and points[-2].recall >= recall:
        return True
    return len(points) > 2 and points[-1].recall - points[-3].recall < _SMALL_GAIN
