"""What an index of a given size will take: disk, memory and time, from rates measured on this machine."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.cache import cache_folder
from mretrieve.errors import InputError
from mretrieve.index.factory import make_index
from mretrieve.index.faiss import load_faiss
from mretrieve.index.sizes import Needs, index_needs

_FORMAT = 1
_N = 4096  # vectors of the calibration
_SEED = 13
_PASSAGES = 64
_GRAPH = "HNSW32"
_GRAPH_EFFORT = 128  # as indexes are built


@dataclass(frozen=True, slots=True)
class Rates:
    """What this machine does, at one number of dimensions.

    Attributes:
        dim: of the vectors.
        threads: that FAISS used.
        products_per_second: multiplications and additions of finding the nearest centroids.
        graph_seconds: per vector put into a graph of `graph_vectors`.
        graph_vectors: see there.
        product_training_seconds: per vector that a product quantiser learns from.
        product_seconds: per vector that it encodes.
        scalar_seconds: per vector that is rounded to bytes.
        bytes_per_second: written to the cache's disk, and hashed.
    """

    dim: int
    threads: int
    products_per_second: float
    graph_seconds: float
    graph_vectors: int
    product_training_seconds: float
    product_seconds: float
    scalar_seconds: float
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class IndexCost:
    """An estimate, beside what Python and the models take. Bytes, and seconds.

    Attributes:
        factory: of the index.
        documents: one vector each.
        dim: of the vectors.
        disk_bytes: of the finished FAISS index.
        disk_while_building_bytes: with the vectors, which are removed at the end.
        ram_building_bytes: at most, at one moment.
        ram_searching_bytes: of what each query reads; the file is memory-mapped.
        rescoring_bytes: of `disk_bytes`, read for candidates only, so that they may stay on the disk.
        gpu_bytes: of the vectors on all GPUs together; None where the index has no GPU form.
        encoding_seconds: None where no model was named.
        building_seconds: from ready vectors to the file on the disk.
    """

    factory: str
    documents: int
    dim: int
    disk_bytes: int
    disk_while_building_bytes: int
    ram_building_bytes: int
    ram_searching_bytes: int
    rescoring_bytes: int
    gpu_bytes: int | None
    encoding_seconds: float | None
    building_seconds: float

    def to_dict(self) -> dict[str, object]:
        """All of it as a plain dictionary, for JSON."""
        return asdict(self)


def plan_index(
    n_documents: int,
    dim: int,
    *,
    faiss: str = "auto",
    rates: Rates,
    documents_per_second: float | None = None,
) -> IndexCost:
    """Estimate what the dense part of an index takes.

    Args:
        n_documents: in it.
        dim: of the vectors.
        faiss: "auto", or a FAISS factory string.
        rates: of this machine, at these dimensions.
        documents_per_second: that the model encodes, if known.

    Raises:
        InputError: a number is out of range, or FAISS does not understand the factory.
    """
    if n_documents < 1 or dim < 1:
        raise InputError(f"--documents and --dim should be at least 1, not {n_documents} and {dim}.")
    needs = index_needs(faiss, n_documents, dim)
    vectors = 4 * n_documents * dim
    return IndexCost(
        factory=needs.factory,
        documents=n_documents,
        dim=dim,
        disk_bytes=round(needs.file_bytes),
        disk_while_building_bytes=round(needs.file_bytes + vectors),
        ram_building_bytes=round(max(needs.training_bytes, needs.file_bytes)),
        ram_searching_bytes=round(needs.first_bytes),
        rescoring_bytes=round(needs.second_bytes),
        gpu_bytes=round(needs.first_bytes) if needs.on_gpu else None,
        encoding_seconds=n_documents / documents_per_second if documents_per_second else None,
        building_seconds=_building_seconds(needs, rates),
    )


def _building_seconds(needs: Needs, rates: Rates) -> float:
    graph = sum(
        n * rates.graph_seconds * math.log(max(size, 2)) / math.log(rates.graph_vectors)
        for n, size in needs.graph_nodes
    )
    return (
        needs.products / rates.products_per_second
        + graph
        + needs.product_points * rates.product_training_seconds
        + needs.product_codes * rates.product_seconds
        + needs.scalar_codes * rates.scalar_seconds
        + needs.file_bytes / rates.bytes_per_second
    )


def measured_rates(dim: int, *, again: bool = False) -> Rates:
    """The rates of this machine, from the cache where they were measured before; some seconds otherwise.

    Args:
        dim: of the vectors.
        again: measure whatever the cache holds.

    Raises:
        InputError: the cache cannot be written.
        MissingDependencyError: FAISS is not installed.
    """
    faiss = load_faiss()
    threads = faiss.omp_get_max_threads()
    known = (_FORMAT, faiss.__version__, os.cpu_count(), threads, dim, faiss.get_compile_options())
    name = hashlib.sha256(repr(known).encode()).hexdigest()[:16]
    path = cache_folder() / "plan" / f"{name}.json"
    if not again:
        try:
            return Rates(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            pass
    with files.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        rates = _measure(dim, threads, path.parent)
        with files.atomic_file(path) as file:
            file.write((json.dumps(asdict(rates), indent=1) + "\n").encode())
    return rates


def clustered_vectors(n: int, dim: int, *, seed: int = _SEED) -> NDArray[np.float32]:
    """(n, dim) float32 unit vectors around some centres, as embeddings are, for measuring time."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((64, dim), dtype=np.float32)
    vectors = centres[rng.integers(64, size=n)] + rng.standard_normal((n, dim), dtype=np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _measure(dim: int, threads: int, folder: Path) -> Rates:
    faiss = load_faiss()
    vectors = clustered_vectors(_N, dim)
    graph = make_index(faiss, _GRAPH, dim)
    faiss.ParameterSpace().set_index_parameter(graph, "efConstruction", _GRAPH_EFFORT)
    n_codes = max(m for m in range(1, max(1, dim // 8) + 1) if dim % m == 0)
    products, rounded = make_index(faiss, f"PQ{n_codes}", dim), make_index(faiss, "SQ8", dim)
    products.pq.cp.min_points_per_centroid = 1  # FAISS warns on stderr of few, for each code
    flat = make_index(faiss, "Flat", dim)
    flat.add(vectors)
    rounded.train(vectors)
    # All once before, since the first product wakes threads and fills caches.
    flat.search(vectors[:256], 1)
    search = min(_seconds(lambda: flat.search(vectors, 1)) for _ in range(2))
    learning = _seconds(lambda: products.train(vectors))
    return Rates(
        dim=dim,
        threads=threads,
        products_per_second=2.0 * _N * _N * dim / search,
        graph_seconds=_seconds(lambda: graph.add(vectors)) / _N,
        graph_vectors=_N,
        product_training_seconds=learning / _N,
        product_seconds=_seconds(lambda: products.add(vectors)) / _N,
        scalar_seconds=_seconds(lambda: rounded.add(vectors)) / _N,
        bytes_per_second=_written_per_second(vectors, folder / "written"),
    )


def _written_per_second(vectors: NDArray[np.float32], path: Path) -> float:
    def write() -> None:
        with files.atomic_file(path) as file:
            file.write(vectors.tobytes())
        files.sha256_of(path)

    try:
        return float(vectors.nbytes) / _seconds(write)
    finally:
        path.unlink(missing_ok=True)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return max(time.perf_counter() - start, 1e-6)


def encoding_rate(model: str, *, device: str = "auto", dtype: str = "auto") -> tuple[float, int]:
    """Documents that a model encodes per second, by the first passages of the sample, and its dimensions.

    Raises:
        InputError: there is no such model.
    """
    from mretrieve.datasets.source import open_source
    from mretrieve.encode.encoder import Encoder

    texts = [document.contents for document in open_source("sample").documents()][:_PASSAGES]
    encoder = Encoder(model, device=device, dtype=dtype)
    encoder.prefer_bulk()
    encoder.encode_documents(texts[:8])
    return len(texts) / _seconds(lambda: encoder.encode_documents(texts)), encoder.dim
