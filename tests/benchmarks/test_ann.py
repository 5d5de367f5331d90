"""The comparison of approximate with exact search, on vectors that take no time."""

import numpy as np
import pytest
from ann import Asked, cached_vectors, compare

from mretrieve.errors import InputError
from mretrieve.planning import clustered_vectors


def test_cached_vectors_are_unit_and_each_once(store):
    one = store()
    texts = [f"word{n}" for n in range(30)]
    one.documents(texts)
    one._save([bytes(16)], one.documents(texts[:1]).astype(np.float16), 0.0)  # a text in another shard again
    found = cached_vectors(one.folder)
    assert found.shape == (30, one.encoder.dim)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(cached_vectors(one.folder, limit=7), found[:7])


def test_without_vectors_the_message_says_how_to_get_some(tmp_path):
    with pytest.raises(InputError, match=r"holds no vectors: run benchmarks/quality\.py"):
        cached_vectors(tmp_path)


def test_sizes_and_recalls_of_two_indexes(tmp_path):
    vectors, queries = clustered_vectors(3000, 32), clustered_vectors(50, 32, seed=1)
    asked = Asked(queries)
    found = list(compare(vectors, asked, ("auto", "RaBitQ", "SQ8"), targets=(0.95,), folder=tmp_path))
    flat, binary, byte = found
    assert (flat.factory, flat.recall, flat.search) == ("Flat", 1.0, "")
    assert flat.share_of_flat == pytest.approx(1, abs=0.01)
    assert byte.recall >= 0.95 and byte.share_of_flat == pytest.approx(0.25, abs=0.01)
    assert (
        binary.recall == binary.queries_per_second == 0.0
    )  # no parameters of one bit per dimension reach it
    assert 0 < binary.most_recall < 0.95
    assert flat.queries_per_second > 0 and flat.times_exact > 0
