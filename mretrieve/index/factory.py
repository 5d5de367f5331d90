"""FAISS indexes by their factory string, and one form more: a first pass over the first dimensions."""

import math
import re
from types import ModuleType
from typing import Any

_PER_LIST = 128  # vectors of a list at the least, so that its centroid adds less than 1% to them
_GRAPH_OF_LISTS = 4096  # lists from which on a graph finds the nearest ones faster than comparing all
_LEAST_FOR_THREE_BITS = 300  # dimensions; of fewer, the 28 bytes beside the three bits are too much

_TRUNCATED = re.compile(r"MRL(\d+),(?P<first>.+?)(?:,Refine\((?P<second>.+)\))?")


def small_factory(n_vectors: int, dim: int) -> str:
    """The FAISS factory string that `small` stands for: at most an eighth of the vectors' size.

    Inverted lists of RaBitQ codes (Gao & Long, 2024, arXiv:2409.09913), three bits per dimension: the first
    one sorts out what cannot be among the best, all three score the rest again.
    """
    n_lists = 2 ** int(math.log2(max(1.0, min(4 * n_vectors**0.5, n_vectors / _PER_LIST))))
    graph = "_HNSW32" if n_lists >= _GRAPH_OF_LISTS else ""
    return f"IVF{n_lists}{graph},RaBitQ{3 if dim >= _LEAST_FOR_THREE_BITS else 2}"


def make_index(faiss: ModuleType, factory: str, dim: int) -> Any:
    """An empty index of vectors by inner product.

    Beside FAISS's own strings, `MRL128,HNSW32,Refine(SQ8)` searches by the first 128 dimensions, brought
    back to unit length as a Matryoshka model wants them (arXiv:2205.13147), and scores the best candidates
    again by all dimensions.

    Args:
        faiss: the library.
        factory: the string.
        dim: of the vectors.

    Raises:
        RuntimeError: the library cannot make it.
    """
    metric = faiss.METRIC_INNER_PRODUCT
    found = _TRUNCATED.fullmatch(factory)
    if found is None:
        return faiss.index_factory(dim, factory, metric)
    n_first = int(found[1])
    if not 0 < n_first < dim:
        raise RuntimeError(f"MRL{n_first} should be fewer dimensions than {dim}, and at least 1")
    index = faiss.IndexPreTransform(faiss.index_factory(n_first, found["first"], metric))
    index.prepend_transform(faiss.NormalizationTransform(n_first, 2.0))
    index.prepend_transform(faiss.RemapDimensionsTransform(dim, n_first, False))
    if found["second"] is None:
        return index
    return faiss.IndexRefine(index, faiss.index_factory(dim, found["second"], metric))
