"""Approximate against exact search, on real embeddings: recall@10, queries per second, bytes per vector.

With `--sentences N` the documents are the first N sentences of the parallel text, each in each of its
languages (`benchmarks/sentences.py`; 0 takes all 460,000, whose encoding goes on where it was stopped). Some
of them are encoded as queries, too, and the share of translations among their ten hits is told. Without it,
embeddings are those that other benchmarks left in the cache (`benchmarks/vectors.py`), or `--vectors`, of
which some are held back as queries. Each index is built as `mretrieve index` would, and tuned as
`mretrieve tune-index` would; its queries are asked together, with the threads that FAISS takes
(OMP_NUM_THREADS). Exact search is FAISS's own on the same threads.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from common import arguments, print_table, write_json
from numpy.typing import NDArray
from sentences import encode_sentences, read_sentences, sentence_store

from mretrieve.cache import cache_folder
from mretrieve.errors import InputError
from mretrieve.index.faiss import DenseIndex, build_dense, load_faiss
from mretrieve.index.tune_index import Tuned, hold_queries, tune_search

Vectors = NDArray[np.float32]

FACTORIES = (
    "auto",
    "HNSW32",
    "small",
    "IVF512,PQ16x4fs,Refine(RaBitQ3)",
    "IVF512,PQ48,Refine(PQ96)",
    "IVF512,PQ48,Refine(SQ8)",
    "IVF512,Flat",
    "SQ8",
    "MRL128,HNSW32,Refine(SQ8)",
)
_ROWS = 16_384  # of a shard
_SEED = 13
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries, and what are the documents' translations.

    Attributes:
        vectors: (m, dim) float32, of queries.
        says: (m,) int64, what each says; None where nothing is known of that.
        documents_say: (n,) int64, what each document says.
    """

    vectors: Vectors
    says: NDArray[np.int64] | None = None
    documents_say: NDArray[np.int64] | None = None

    def translations(self, rows: NDArray[np.int64]) -> float | None:
        """Share of translations, or the query itself, among hits, (m, k)."""
        if self.says is None or self.documents_say is None:
            return None
        said = np.where(rows < 0, -1, self.documents_say[rows])
        return float((said == self.says[:, None]).mean())


@dataclass(frozen=True, slots=True)
class Found:
    """What one index reached with the fastest parameters for a recall; zeros where none reaches it."""

    factory: str
    search: str
    target: float
    recall: float
    queries_per_second: float
    times_exact: float
    most_recall: float
    translations: float | None
    bytes_per_vector: float = 0.0
    share_of_flat: float = 0.0
    build_seconds: float = 0.0


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


def asked_sentences(data: Path, limit: int | None, n_queries: int) -> tuple[Vectors, Asked]:
    """Documents, and some of them as queries, of the parallel text."""
    sentences = read_sentences(data, limit)
    store = sentence_store()
    vectors = encode_sentences(sentences, store)
    size = min(n_queries, len(sentences))
    chosen = np.sort(np.random.default_rng(_SEED).choice(len(sentences), size=size, replace=False))
    queries = store.queries([sentences.texts[number] for number in chosen.tolist()])
    return vectors, Asked(queries, sentences.rows[chosen], sentences.rows)


def compare(
    vectors: Vectors,
    asked: Asked,
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
    held = hold_queries(flat, queries=asked.vectors, vectors=vectors)
    exact = _queries_per_second(flat, asked.vectors)
    for factory in factories:
        print(f"{factory} ...", file=sys.stderr)
        path = folder / "index"
        start_time = time.perf_counter()
        entry = build_dense(shards, path, factory=factory, device="cpu")
        seconds = time.perf_counter() - start_time
        dense = DenseIndex.open(path, search=entry.search, device="cpu")
        size = path.stat().st_size / len(vectors)
        for target in targets:
            tuned = tune_search(dense, held, recall=target, factory=entry.factory)
            found = _found(dense, tuned, asked, exact)
            share = size / (4 * vectors.shape[1])
            yield replace(found, bytes_per_vector=size, share_of_flat=share, build_seconds=seconds)


def _found(dense: DenseIndex, tuned: Tuned, asked: Asked, exact: float) -> Found:
    chosen, rate, translations = tuned.chosen, 0.0, None
    if chosen is not None:
        dense.set_search(chosen.search)
        rate = _queries_per_second(dense, asked.vectors)
        translations = asked.translations(dense.search(asked.vectors, tuned.top_k)[1])
    return Found(
        factory=tuned.factory,
        search=chosen.search if chosen else "",
        target=tuned.target,
        recall=chosen.recall if chosen else 0.0,
        queries_per_second=rate,
        times_exact=rate / exact,
        most_recall=max(point.recall for point in tuned.points),
        translations=translations,
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
    parser.add_argument("--sentences", type=int, help="of the parallel text, instead of vectors; 0: all")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--factories", nargs="+", default=FACTORIES)
    parser.add_argument("--recall", type=float, nargs="+", default=(0.9, 0.95))
    chosen = parser.parse_args()
    if chosen.sentences is not None:
        vectors, asked = asked_sentences(chosen.data, chosen.sentences or None, chosen.queries)
    else:
        everything = cached_vectors(chosen.vectors, chosen.limit)
        vectors, asked = everything[chosen.queries :], Asked(everything[: chosen.queries])
    with tempfile.TemporaryDirectory() as folder:
        found = list(
            compare(
                vectors, asked, tuple(chosen.factories), targets=tuple(chosen.recall), folder=Path(folder)
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
        "translations",
    ]
    rows = [
        [one.factory, one.search, one.recall, f"{one.queries_per_second:,.0f}", f"{one.times_exact:.1f}"]
        + [f"{one.bytes_per_vector:.0f}", one.share_of_flat, f"{one.build_seconds:.0f}"]
        + ["" if one.translations is None else one.translations]
        for one in found
    ]
    print_table(header, rows)
    faiss = load_faiss()
    figures = {"vectors": len(vectors), "dim": int(vectors.shape[1]), "queries": len(asked.vectors)}
    figures |= {"threads": faiss.omp_get_max_threads()}
    write_json(chosen.json, figures | {"found": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
