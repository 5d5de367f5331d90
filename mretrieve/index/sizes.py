"""What a FAISS index will take, from its empty form: bytes by arithmetic, work in countable steps."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from mretrieve.index.factory import make_index
from mretrieve.index.faiss import dense_entry, load_faiss, training_size

_LIST_ROUNDS = 10  # of FAISS's k-means for the centroids of inverted lists
_ID_BYTES = 8
_ATTEMPTS_POINTS = 65_536  # vectors that a product quantiser learns from, at most


@dataclass(frozen=True, slots=True)
class Needs:
    """What an index of `vectors` vectors takes.

    Attributes:
        factory: it is built by.
        vectors: in it.
        dim: of them.
        first_bytes: of what each search reads: codes, ids, graph, centroids.
        second_bytes: of the vectors that only score candidates again, and may stay on the disk.
        training_bytes: of memory while it is trained.
        on_gpu: whether its first part has a form for GPUs.
        products: multiplications and additions of k-means and of finding lists.
        graph_nodes: vectors put into a graph, or sought in one, each with the size of that graph.
        product_points: vectors that product quantisers learn from.
        product_codes: vectors that product quantisers encode.
        scalar_codes: vectors that are rounded or copied.
    """

    factory: str
    vectors: int
    dim: int
    first_bytes: float = 0.0
    second_bytes: float = 0.0
    training_bytes: float = 0.0
    on_gpu: bool = True
    products: float = 0.0
    graph_nodes: tuple[tuple[int, int], ...] = ()
    product_points: int = 0
    product_codes: int = 0
    scalar_codes: int = 0

    @property
    def file_bytes(self) -> float:
        """Size of the file."""
        return self.first_bytes + self.second_bytes


def index_needs(factory: str, n_vectors: int, dim: int) -> Needs:
    """What an index will take.

    Args:
        factory: "auto", or a FAISS factory string.
        n_vectors: in it.
        dim: of them.

    Raises:
        InputError: FAISS does not understand the factory.
    """
    faiss = load_faiss()
    chosen = dense_entry(factory, n_vectors, dim).factory
    index = make_index(faiss, chosen, dim)
    sample = 0 if index.is_trained else min(n_vectors, training_size(faiss, index))
    count = _Count(faiss, sample)
    if isinstance(index, faiss.IndexRefine):
        first = count.bytes_of(index.base_index, n_vectors)
        second = count.bytes_of(index.refine_index, n_vectors)
    else:
        first, second = count.bytes_of(index, n_vectors), 0.0
    return Needs(
        factory=chosen,
        vectors=n_vectors,
        dim=dim,
        first_bytes=first,
        second_bytes=second,
        training_bytes=2.0 * sample * dim * 4,  # FAISS copies what it learns from
        on_gpu=count.on_gpu,
        products=count.products,
        graph_nodes=tuple(count.graph_nodes),
        product_points=count.product_points,
        product_codes=count.product_codes,
        scalar_codes=count.scalar_codes,
    )


class _Count:
    """Walks through the parts of an index, adding up the work."""

    def __init__(self, faiss: ModuleType, sample: int) -> None:
        self.faiss = faiss
        self.sample = sample
        self.on_gpu = True
        self.products = 0.0
        self.graph_nodes: list[tuple[int, int]] = []
        self.product_points = self.product_codes = self.scalar_codes = 0

    def bytes_of(self, part: Any, n: int) -> float:
        """Bytes of a part that holds `n` vectors."""
        faiss, index = self.faiss, self.faiss.downcast_index(part)
        if isinstance(index, faiss.IndexPreTransform):
            return self._transforms(index) + self.bytes_of(index.index, n)
        if isinstance(index, faiss.IndexHNSW):
            return self._graph(index, n)
        if isinstance(index, faiss.IndexIVF):
            return self._lists(index, n)
        self._encode(index, n)
        return float(n * index.sa_code_size()) + _codebook_bytes(index)

    def _transforms(self, index: Any) -> float:
        total = 0.0
        for number in range(index.chain.size()):
            transform = self.faiss.downcast_VectorTransform(index.chain.at(number))
            if isinstance(transform, self.faiss.LinearTransform):
                total += 4.0 * transform.d_in * transform.d_out
        return total

    def _graph(self, index: Any, n: int) -> float:
        self.on_gpu = False
        self.graph_nodes.append((n, n))
        n_links = index.hnsw.nb_neighbors(1)
        # Twice the links on the lowest level; one vector in M also stands on the next, and so on.
        links = index.hnsw.nb_neighbors(0) + n_links / max(n_links - 1, 1)
        return self.bytes_of(index.storage, n) + float(n * (4 * links + 8 + 4))

    def _lists(self, index: Any, n: int) -> float:
        quantizer = self.faiss.downcast_index(index.quantizer)
        per_vector = 2.0 * index.nlist * index.d
        self.products += _LIST_ROUNDS * min(self.sample, 256 * index.nlist) * per_vector
        centroids = self._quantizer_bytes(quantizer, index.nlist)
        if isinstance(quantizer, self.faiss.IndexHNSW):
            self.graph_nodes.append((n, index.nlist))
        else:
            self.products += n * per_vector
        self._encode(index, n)
        lists = float(n * (index.code_size + _ID_BYTES) + 8 * index.nlist)
        return centroids + lists + _codebook_bytes(index)

    def _quantizer_bytes(self, quantizer: Any, n_lists: int) -> float:
        if not isinstance(quantizer, self.faiss.IndexHNSW):
            return float(n_lists * quantizer.d * 4)
        before = self.on_gpu
        total = self._graph(quantizer, n_lists)
        self.on_gpu = before  # the graph of the centroids stays on the CPU
        return total

    def _encode(self, index: Any, n: int) -> None:
        if hasattr(index, "pq"):
            self.product_points += min(self.sample, _ATTEMPTS_POINTS)
            self.product_codes += n
        else:
            self.scalar_codes += n
            self.on_gpu = self.on_gpu and "RaBitQ" not in type(index).__name__


def _codebook_bytes(index: Any) -> float:
    if hasattr(index, "pq"):
        return float(4 * index.pq.ksub * index.pq.d)
    return 8.0 * index.d if hasattr(index, "sq") else 0.0
