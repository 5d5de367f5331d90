"""FAISS indexes by their factory string, and one form more: a first pass over the first dimensions."""

import re
from types import ModuleType
from typing import Any

_TRUNCATED = re.compile(r"MRL(\d+),(?P<first>.+?)(?:,Refine\((?P<second>.+)\))?")


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
