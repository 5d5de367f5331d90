"""Room for all vectors of an index before they are added.

FAISS's arrays grow by doubling, with the old and the new one in memory while they are copied: just above a
power of two an index would take twice its size for a moment.
"""

from types import ModuleType
from typing import Any

_MORE_LINKS = 1.02  # than the mean, since the levels of a graph are random


def reserve(faiss: ModuleType, index: Any, n_vectors: int) -> None:
    """Make room in an empty index, where its form lets it be made.

    Inverted lists grow each on its own, and so never double all at once.

    Args:
        faiss: the library.
        index: of any form; trained or not.
        n_vectors: to be added.
    """
    part = faiss.downcast_index(index)
    if isinstance(part, faiss.IndexPreTransform):
        reserve(faiss, part.index, n_vectors)
    elif isinstance(part, faiss.IndexRefine):
        reserve(faiss, part.base_index, n_vectors)
        reserve(faiss, part.refine_index, n_vectors)
    elif isinstance(part, faiss.IndexHNSW):
        reserve(faiss, part.storage, n_vectors)
        n_links = part.hnsw.nb_neighbors(1)
        per_vector = part.hnsw.nb_neighbors(0) + n_links / max(n_links - 1, 1)
        _make_room(part.hnsw.neighbors, int(_MORE_LINKS * n_vectors * per_vector))
    elif isinstance(part, faiss.IndexFlatCodes):
        _make_room(part.codes, n_vectors * part.code_size)


def _make_room(array: Any, size: int) -> None:
    array.resize(size)
    array.resize(0)  # keeps the room
