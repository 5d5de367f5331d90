import faiss
import numpy as np
import pytest

from mretrieve.index.factory import make_index
from mretrieve.index.reserve import reserve
from mretrieve.planning import clustered_vectors

DIM = 32


@pytest.mark.parametrize(
    "factory", ["Flat", "SQ8", "PQ4x4", "HNSW8", "IVF4,Flat", "PCA8,Flat", "SQ4,Refine(Flat)", "MRL8,HNSW8"]
)
def test_what_is_added_after_making_room_is_found_as_without(factory):
    vectors = clustered_vectors(600, DIM)
    indexes = [make_index(faiss, factory, DIM) for _ in range(2)]
    for index, n_reserved in zip(indexes, (600, 0), strict=True):
        index.train(vectors)
        reserve(faiss, index, n_reserved)
        assert index.ntotal == 0
        for start in range(0, 600, 200):
            index.add(vectors[start : start + 200])
    scores, rows = indexes[0].search(vectors[:20], 5)
    expected = indexes[1].search(vectors[:20], 5)
    assert np.array_equal(rows, expected[1]) and np.array_equal(scores, expected[0])


def address(array):
    return int(array.data().this) if hasattr(array.data(), "this") else int(array.data())


@pytest.mark.parametrize("factory", ["Flat", "SQ8", "HNSW8"])
def test_vectors_stay_where_they_are_while_more_are_added(factory):
    """An array that grew would have moved."""
    vectors = clustered_vectors(3000, DIM)
    index = make_index(faiss, factory, DIM)
    index.train(vectors)
    reserve(faiss, index, len(vectors))
    places = set()
    for start in range(0, len(vectors), 500):
        index.add(vectors[start : start + 500])
        codes = faiss.downcast_index(index.storage).codes if hasattr(index, "storage") else index.codes
        places.add(address(codes))
    assert len(places) == 1
