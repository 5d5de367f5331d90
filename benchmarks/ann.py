"""Approximate against exact search, on real embeddings: recall@10, queries per second, bytes per vector.

The embeddings are those that other benchmarks left in the cache (`benchmarks/vectors.py`), or `--vectors`;
some are held back as queries. Each index is built as `mretrieve index` would, and tuned as
`mretrieve tune-index` would; its queries are asked together, with the threads that FAISS takes
(OMP_NUM_THREADS). Exact search is FAISS's own on the same threads.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from common import arguments, print_table, write_json
from numpy.typing import NDArray

from mretrieve.cache import cache_folder
from mretrieve.errors import InputError
from mretrieve.index.faiss import DenseIndex, build_dense, load_faiss
from mretrieve.index.tune_index import HeldQueries, hold_queries, tune_search

Vectors = NDArray[np.float32]

SMALL = "IVF512,PQ48,Refine(PQ96)"
"""Re-scoring by finer codes: with byte vectors it would be a quarter of the flat size at the least."""

FACTORIES = (
    "auto",
    "HNSW32",
    "IVF512,Flat",
    "IVF512,PQ48,Refine(SQ8)",
    SMALL,
    "SQ8",
    "RR384,RaBitQ,Refine(SQ8)",
    "MRL128,HNSW32,Refine(SQ8)",
)
_ROWS = 16_384  # of a shard
_SEED = 13
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Found:
    """What one index reached with the fastest parameters for a recall; zeros where none reaches it."""

    factory: str
    search: str
    target: float
    recall: float
    queries_per_second: float
    times_exact: float
    bytes_per_vector: float
    share_of_flat: float
    build_seconds: float
    most_recall: float


def cached_vectors(folder: Path | None = None, limit: int | None = None) -> Vectors:
    """(n, dim) float32 unit vectors, each once, from a folder of `VectorStore`; by default the largest.

    Raises:
        InputError: there is none.
    """
    root = cache_folder() / "benchmarks" / "vectors"
    folders = [folder] if folder else sorted(root.glob("*"), key=lambda one: -sum(1 for _ in one.iterdir()))
    shards = sorted(folders[0].glob("*.npz")) if folders else []
    if not shards:
        raise InputError(
            f"{folder or root} holds no vectors: run benchmarks/quality.py first, which makes some."
        )
    parts = []
    for path in shards:
        with np.load(path) as shard:
            parts.append(shard["vectors"])
    vectors = np.unique(np.concatenate(parts), axis=0)
    chosen = np.random.default_rng(_SEED).permutation(len(vectors))[:limit]
    found: Vectors = vectors[chosen].astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def compare(
    vectors: Vectors,
    queries: Vectors,
    factories: tuple[str, ...],
    *,
    targets: tuple[float, ...],
    folder: Path,
) -> Iterator[Found]:
    """Build each index, and find its fastest parameters for each recall wanted."""
    shards = []
    for number, start in enumerate(range(0, len(vectors), _ROWS)):
        shards.append(folder / f"{number:06d}.npy")
        np.save(shards[-1], vectors[start : start + _ROWS])
    build_dense(shards, folder / "flat", factory="Flat", device="cpu")
    flat = DenseIndex.open(folder / "flat", device="cpu")
    held = hold_queries(flat, queries=queries, vectors=vectors)
    exact = _queries_per_second(flat, queries)
    for factory in factories:
        print(f"{factory} ...", file=sys.stderr)
        path = folder / "index"
        start_time = time.perf_counter()
        entry = build_dense(shards, path, factory=factory, device="cpu")
        seconds = time.perf_counter() - start_time
        dense = DenseIndex.open(path, search=entry.search, device="cpu")
        for target in targets:
            yield _found(dense, held, entry.factory, target, exact, path.stat().st_size, seconds)


def _found(
    dense: DenseIndex,
    held: HeldQueries,
    factory: str,
    target: float,
    exact: float,
    n_bytes: int,
    seconds: float,
) -> Found:
    tuned = tune_search(dense, held, recall=target, factory=factory)
    chosen = tuned.chosen
    rate = 0.0
    if chosen is not None:
        dense.set_search(chosen.search)
        rate = _queries_per_second(dense, held.vectors)
    return Found(
        factory=factory,
        search=chosen.search if chosen else "",
        target=target,
        recall=chosen.recall if chosen else 0.0,
        queries_per_second=rate,
        times_exact=rate / exact,
        bytes_per_vector=n_bytes / len(dense),
        share_of_flat=n_bytes / (4 * dense.dim * len(dense)),
        build_seconds=seconds,
        most_recall=max(point.recall for point in tuned.points),
    )


def _queries_per_second(dense: DenseIndex, queries: Vectors) -> float:
    spent = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        dense.search(queries, 10)
        spent.append(time.perf_counter() - start)
    return len(queries) / min(spent)


def main() -> None:
    """Compare, print a table, write the figures."""
    parser = arguments(__doc__)
    parser.add_argument("--vectors", type=Path, help="folder of a VectorStore; the largest in the cache")
    parser.add_argument("--limit", type=int, help="vectors to take, at most")
    parser.add_argument("--queries", type=int, default=1000, help="vectors held back as queries")
    parser.add_argument("--factories", nargs="+", default=FACTORIES)
    parser.add_argument("--recall", type=float, nargs="+", default=(0.9, 0.95))
    chosen = parser.parse_args()
    everything = cached_vectors(chosen.vectors, chosen.limit)
    queries, vectors = everything[: chosen.queries], everything[chosen.queries :]
    with tempfile.TemporaryDirectory() as folder:
        found = list(
            compare(
                vectors, queries, tuple(chosen.factories), targets=tuple(chosen.recall), folder=Path(folder)
            )
        )
    header = [
        "index",
        "parameters",
        "recall@10",
        "queries/s",
        "x exact",
        "bytes/vector",
        "of flat",
        "build s",
    ]
    rows = [
        [one.factory, one.search, one.recall, f"{one.queries_per_second:,.0f}", f"{one.times_exact:.1f}"]
        + [f"{one.bytes_per_vector:.0f}", one.share_of_flat, f"{one.build_seconds:.0f}"]
        for one in found
    ]
    print_table(header, rows)
    faiss = load_faiss()
    figures = {"vectors": len(vectors), "dim": int(vectors.shape[1]), "queries": len(queries)}
    figures |= {"threads": faiss.omp_get_max_threads()}
    write_json(chosen.json, figures | {"found": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
