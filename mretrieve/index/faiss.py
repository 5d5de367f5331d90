"""Dense search with FAISS: inner product on unit vectors, memory-mapped from one file."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index.factory import make_index, small_factory
from mretrieve.index.faiss_gpu import Device, to_gpus, train_on_gpus
from mretrieve.index.manifest import DenseEntry
from mretrieve.index.reserve import reserve

EXACT_UP_TO = 100_000
"""Vectors up to which `auto` compares all of them: some 30 ms per query on one core at 384 dimensions."""

GRAPH_UP_TO = 5_000_000
"""Vectors up to which `auto` keeps them whole, in a graph; above, memory asks for codes."""

EXAMPLES = "Flat, HNSW32, IVF4096,Flat, IVF4096,PQ48,Refine(SQ8), MRL128,HNSW32,Refine(SQ8)"

_ONE_THREAD_WORK = 1_000_000  # queries times vectors; some 10 ms for one thread
_MAX_LOOK_ON = 2048  # hits fetched to see where a tie ends; FAISS on GPUs gives no more
_SCAN_ROWS = 16_384  # vectors taken out of the index at once: 25 MB at 384 dimensions
_GRAPH_EFFORT = 128  # FAISS's 40 finds 97% of the best 100 where this finds 99%, for 4x the building time
_SEED = 13
_TRAINING_PER_LIST = 50  # k-means of FAISS uses up to 256 points per centroid and warns below 39
_MIN_TRAINING = 65_536


def load_faiss() -> ModuleType:
    """Import FAISS.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            "Dense search needs FAISS, which is not installed. Run `pip install 'mretrieve[cpu]'` "
            "(or 'mretrieve[gpu]' with an NVIDIA GPU)."
        ) from error
    return faiss


def choose_factory(n_vectors: int, dim: int) -> str:
    """The FAISS factory string that `auto` stands for.

    Exact up to 100,000 vectors; a graph above; above 5 million inverted lists of product-quantised
    vectors, whose best candidates are scored again with one byte per dimension.
    """
    if n_vectors <= EXACT_UP_TO:
        return "Flat"
    if n_vectors <= GRAPH_UP_TO:
        return "HNSW32"
    # Inverted lists: a power of two near 4 sqrt(n), as FAISS's guidelines have it.
    n_lists = 2 ** round(np.log2(4 * n_vectors**0.5))
    n_codes = max(m for m in range(1, max(1, dim // 8) + 1) if dim % m == 0)
    return f"IVF{n_lists}_HNSW32,PQ{n_codes},Refine(SQ8)"


NAMED = {"auto": choose_factory, "small": small_factory}
"""Names for what becomes a factory string by number and dimensions of the vectors."""


def check_factory(factory: str, dim: int) -> None:
    """Make sure that FAISS understands a factory string, before anything is encoded for it.

    Raises:
        InputError: it does not; FAISS's reason is told.
    """
    if factory not in NAMED:
        _new_index(load_faiss(), factory, dim)


def build_dense(
    shards: Sequence[Path],
    path: Path,
    *,
    factory: str,
    device: Device = "auto",
    on_rows: Callable[[int], None] | None = None,
) -> DenseEntry:
    """Build a FAISS index from vector shards, of which one at a time is read.

    Args:
        shards: `.npy` files of float32 (n, dim) unit vectors, in the order of their rows.
        path: file to write.
        factory: "auto", or a FAISS factory string.
        device: where inverted lists are trained; on the GPUs by default, if FAISS sees some.
        on_rows: called with the number of vectors that were added so far.

    Returns:
        What was built, and the parameters that it should be searched with.

    Raises:
        InputError: FAISS cannot build this factory with these vectors.
    """
    faiss = load_faiss()
    n_vectors, dim = 0, 0
    for shard in shards:
        rows, dim = np.load(shard, mmap_mode="r").shape
        n_vectors += rows
    entry = dense_entry(factory, n_vectors, dim)
    index = _new_index(faiss, entry.factory, dim)
    with suppress(RuntimeError):  # not a graph
        faiss.ParameterSpace().set_index_parameter(index, "efConstruction", _GRAPH_EFFORT)
    try:
        if not index.is_trained:
            train_on_gpus(faiss, index, device=device)
            index.train(_sample(shards, n_vectors, training_size(faiss, index)))
        reserve(faiss, index, n_vectors)
        for vectors in map(np.load, shards):
            index.add(vectors)
            if on_rows is not None:
                on_rows(index.ntotal)
    except RuntimeError as error:
        raise _factory_error(entry.factory, f"for {n_vectors:,} vectors", error) from error
    with files.atomic_file(path) as file:
        # Through Python, so that a full disk is an OSError here, not a line on stderr of a closing C file.
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, 1 << 20))
    return entry


def dense_entry(factory: str, n_vectors: int, dim: int) -> DenseEntry:
    """What `factory` becomes for a collection of this size, with sensible search parameters."""
    faiss = load_faiss()
    if factory in NAMED:
        factory = NAMED[factory](n_vectors, dim)
    index = _new_index(faiss, factory, dim)
    names = _parameter_names(faiss, index)
    n_probe = min(128, max(16, _n_lists(faiss, index) // 64))
    values = {"nprobe": n_probe, "quantizer_efSearch": 2 * n_probe, "efSearch": 128, "k_factor_rf": 4}
    return DenseEntry(factory, ",".join(f"{name}={values[name]}" for name in names if name in values))


class DenseIndex:
    """Unit vectors by row number, searched by inner product (the cosine)."""

    def __init__(self, index: Any, *, most: int | None = None) -> None:
        """Wrap a FAISS index that was loaded already; `open` reads one from a file.

        Args:
            index: it.
            most: vectors that it can give for one query, where that is limited.
        """
        self._index = index
        self._most = most

    @classmethod
    def open(cls, path: Path, *, search: str = "", device: Device = "auto") -> "DenseIndex":
        """Open an index file, memory-mapped, or on the GPUs where FAISS sees some.

        Args:
            path: file written by `build_dense`.
            search: FAISS search parameters, `nprobe=32,k_factor_rf=4`.
            device: `auto` takes the GPUs that FAISS sees; `cuda` says so in a line where it sees none.

        Raises:
            InputError: the file is damaged, or has no such parameters.
            MissingDependencyError: FAISS is not installed.
        """
        faiss = load_faiss()
        try:
            # This flag maps codes, graphs and lists alike; the older IO_FLAG_MMAP maps lists only.
            index = faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
        except RuntimeError as error:
            raise InputError(
                f"Cannot read {path} ({_reason(error)}): it is damaged, or of a newer FAISS than "
                f"{faiss.__version__}. Build the index again with --overwrite."
            ) from error
        try:
            faiss.ParameterSpace().set_index_parameters(index, search)
        except RuntimeError as error:
            raise InputError(f"{path} has no search parameters {search!r}: {_reason(error)}.") from error
        on_gpus = to_gpus(faiss, index, device=device)
        return cls(on_gpus, most=None if on_gpus is index else _MAX_LOOK_ON)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return int(self._index.d)

    def set_search(self, search: str) -> None:
        """Search with other parameters from now on; no search may be under way.

        Raises:
            InputError: the index has no such parameters.
        """
        try:
            load_faiss().ParameterSpace().set_index_parameters(self._index, search)
        except RuntimeError as error:
            raise InputError(f"The index has no search parameters {search!r}: {_reason(error)}.") from error

    def search_parameters(self) -> tuple[list[str], int]:
        """Names of the parameters that it is searched with, and its number of inverted lists, 0 without."""
        faiss = load_faiss()
        return _parameter_names(faiss, self._index), _n_lists(faiss, self._index)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, dim) float32: vectors as the index holds them, which codes do to some digits only."""
        faiss = load_faiss()
        with suppress(RuntimeError):  # without inverted lists
            faiss.extract_index_ivf(self._index).make_direct_map()
        found: NDArray[np.float32] = self._index.reconstruct_batch(rows)
        return found

    def search(
        self, queries: NDArray[np.float32], top_k: int, *, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest vectors of each query.

        Args:
            queries: (n, dim) float32 unit vectors.
            top_k: vectors per query, from 1.
            among: (m,) int64, ascending, the rows to choose from; all by default.

        Returns:
            Scores (n, k) float32, descending, and rows (n, k) int64, with k = min(top_k, len(self), m);
            equal scores are in ascending order of rows. Where an approximate index found fewer, the
            last rows are -1 with score -inf.

        Raises:
            InputError: the queries have another number of dimensions.
            ValueError: `top_k` is below 1.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}.")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise InputError(
                f"Queries of shape {queries.shape} do not fit an index of {self.dim} dimensions: "
                "encode them with the model that the index was built with."
            )
        if among is not None and len(among) < len(self):
            return self._search_among(queries, min(top_k, len(among)), among)
        top_k = min(top_k, len(self))
        limit = min(len(self), max(top_k, _MAX_LOOK_ON))
        n_wanted = min(top_k + 1, limit)
        scores, rows = self._ordered(queries, n_wanted)
        best_scores, best_rows = scores[:, :top_k].copy(), rows[:, :top_k].copy()
        tied = np.arange(len(queries))
        while n_wanted < limit:
            # FAISS cuts ties at random: look on until the cut is between two different scores.
            still = (scores[:, top_k - 1] == scores[:, -1]) & (rows[:, -1] >= 0)
            if not still.any():
                break
            tied, n_wanted = tied[still], min(4 * n_wanted, limit)
            scores, rows = self._ordered(queries[tied], n_wanted)
            best_scores[tied], best_rows[tied] = scores[:, :top_k], rows[:, :top_k]
        return best_scores, best_rows

    def _search_among(
        self, queries: NDArray[np.float32], top_k: int, among: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search some of the rows: all of them where they are few, else among more of the best."""
        if len(among) <= EXACT_UP_TO:
            with suppress(RuntimeError):  # inverted lists do not know where a row is
                return self._scan(queries, top_k, among)
        limit = len(self) if self._most is None else min(self._most, len(self))
        n_wanted = 2 * top_k * -(-len(self) // len(among))
        while True:
            n_wanted = min(n_wanted, limit)
            scores, rows = self._ordered(queries, n_wanted)
            place = np.minimum(np.searchsorted(among, rows), len(among) - 1)
            inside = among[place] == rows
            if n_wanted == limit or (inside.sum(axis=1) >= top_k).all():
                break
            n_wanted *= 4
        scores, rows = np.where(inside, scores, np.float32(-np.inf)), np.where(inside, rows, -1)
        first = np.argsort(~inside, axis=1, kind="stable")[:, :top_k]
        return np.take_along_axis(scores, first, axis=1), np.take_along_axis(rows, first, axis=1)

    def _scan(
        self, queries: NDArray[np.float32], top_k: int, among: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Compare the queries with each of the rows."""
        scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for start in range(0, len(among), _SCAN_ROWS):
            some = among[start : start + _SCAN_ROWS]
            with _threads(few=True):
                vectors = self._index.reconstruct_batch(some)
            scores = np.concatenate([scores, queries @ vectors.T], axis=1)
            rows = np.concatenate([rows, np.broadcast_to(some, (len(queries), len(some)))], axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]  # equal scores stay in order of rows
            scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
        return scores, rows

    def _ordered(
        self, queries: NDArray[np.float32], top_k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        with _threads(few=len(queries) * len(self) <= _ONE_THREAD_WORK):
            scores, rows = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), top_k)
        scores = np.where(rows < 0, np.float32(-np.inf), scores)
        order = np.lexsort((rows, -scores), axis=1)
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


@contextmanager
def _threads(*, few: bool) -> Iterator[None]:
    """Keep FAISS to this thread for a small search.

    Its other threads wait busily for their next work, and so take the cores from the encoder's.
    """
    if not few:
        yield
        return
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _new_index(faiss: ModuleType, factory: str, dim: int) -> Any:
    try:
        index = make_index(faiss, factory, dim)
    except RuntimeError as error:
        raise _factory_error(factory, f"for {dim} dimensions", error) from error
    if isinstance(index, faiss.IndexIDMap):
        raise InputError(f"--faiss {factory!r}: ids are rows here, leave IDMap out. Examples: {EXAMPLES}.")
    return index


def _parameter_names(faiss: ModuleType, index: Any) -> list[str]:
    space = faiss.ParameterSpace()
    space.initialize(index)
    return [space.parameter_ranges.at(i).name for i in range(space.parameter_ranges.size())]


def _n_lists(faiss: ModuleType, index: Any) -> int:
    """Inverted lists of an index, also of one inside a transform or a refining index; 0 without."""
    try:
        return int(faiss.extract_index_ivf(index).nlist)
    except RuntimeError:
        return 0


def training_size(faiss: ModuleType, index: Any) -> int:
    """Vectors that an index learns from, where there are so many."""
    return max(_MIN_TRAINING, _TRAINING_PER_LIST * _n_lists(faiss, index))


def _sample(shards: Sequence[Path], n_vectors: int, size: int) -> NDArray[np.float32]:
    """(min(size, n_vectors), dim) float32: vectors at random rows, the same each time."""
    rng = np.random.default_rng(_SEED)
    chosen = np.sort(rng.choice(n_vectors, size=min(size, n_vectors), replace=False))

    found: NDArray[np.float32] = np.empty((0, 0), np.float32)
    start = 0
    for shard in shards:
        vectors = np.load(shard, mmap_mode="r")
        first, last = np.searchsorted(chosen, [start, start + len(vectors)])
        if not found.size:
            found = np.empty((len(chosen), vectors.shape[1]), np.float32)
        found[first:last] = vectors[chosen[first:last] - start]
        start += len(vectors)
    return found


def _factory_error(factory: str, what: str, error: RuntimeError) -> InputError:
    return InputError(
        f"FAISS cannot build --faiss {factory!r} {what}: {_reason(error)}. "
        f"Choose auto or small, or a factory string, as {EXAMPLES}."
    )


def _reason(error: RuntimeError) -> str:
    """What FAISS says, without the C++ signature, file and line before it."""
    reason = re.sub(r"^.* at \S+:\d+: ", "", str(error), flags=re.DOTALL)
    return re.sub(r"^Error: '.*?' failed: ", "", reason).strip().rstrip(".")
