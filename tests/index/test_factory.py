"""A first pass over the first dimensions, and FAISS's own strings."""

import faiss
import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.index.factory import make_index, small_factory
from mretrieve.index.faiss import DenseIndex, build_dense, check_factory, dense_entry

DIM = 32


def matryoshka_vectors(n, seed=0):
    """Unit vectors whose first dimensions say most, as a Matryoshka model's."""
    scale = 0.9 ** np.arange(DIM)
    vectors = (np.random.default_rng(seed).standard_normal((n, DIM)) * scale).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_first_pass_sees_the_first_dimensions_at_unit_length():
    vectors, queries = matryoshka_vectors(500), matryoshka_vectors(20, seed=1)
    index = make_index(faiss, "MRL8,Flat", DIM)
    index.add(vectors)
    scores, rows = index.search(queries, 5)
    first, asked = vectors[:, :8], queries[:, :8]
    cosines = (asked / np.linalg.norm(asked, axis=1, keepdims=True)) @ (
        first / np.linalg.norm(first, axis=1, keepdims=True)
    ).T
    assert rows.tolist() == np.argsort(-cosines, axis=1)[:, :5].tolist()
    assert scores == pytest.approx(-np.sort(-cosines, axis=1)[:, :5], abs=1e-5)


@pytest.mark.parametrize("second", ["Flat", "SQfp16", "SQ8"])
def test_the_best_are_scored_again_by_all_dimensions(tmp_path, second):
    vectors, queries = matryoshka_vectors(2000), matryoshka_vectors(50, seed=1)
    np.save(tmp_path / "0.npy", vectors)
    entry = build_dense([tmp_path / "0.npy"], tmp_path / "dense.faiss", factory=f"MRL8,Flat,Refine({second})")
    assert entry.search == "k_factor_rf=4"
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    recalls = []
    for depth in (1, 16):
        index = DenseIndex.open(tmp_path / "dense.faiss", search=f"k_factor_rf={depth}")
        scores, rows = index.search(queries, 10)
        recalls.append(
            np.mean([len({*a} & {*b}) for a, b in zip(rows.tolist(), exact.tolist(), strict=True)])
        )
        products = np.take_along_axis(queries @ vectors.T, rows, axis=1)
        assert scores == pytest.approx(products, abs=0.02)
    assert recalls[0] < 6 and recalls[1] > 9  # of ten


@pytest.mark.parametrize("n", [0, 32, 100])
def test_as_many_first_dimensions_as_there_are_is_an_error(n):
    with pytest.raises(InputError, match=f"MRL{n} should be fewer dimensions than 32"):
        check_factory(f"MRL{n},Flat", DIM)


def test_an_unknown_inner_string_is_told():
    with pytest.raises(InputError, match="could not parse index string Flart"):
        check_factory("MRL8,Flart,Refine(SQ8)", DIM)


def test_small_has_lists_that_add_little():
    # A list has 128 vectors at least, 4 sqrt(n) lists are enough: 10,000 / 128 = 78; 4 sqrt(1e8) = 40,000.
    assert small_factory(10_000, 384) == "IVF64,RaBitQ3"
    assert small_factory(460_000, 384) == "IVF2048,RaBitQ3"
    assert small_factory(10**8, 768) == "IVF32768_HNSW32,RaBitQ3"
    assert small_factory(10_000, 128) == "IVF64,RaBitQ2"
    assert small_factory(1, 384) == "IVF1,RaBitQ3"


@pytest.mark.parametrize("dim", [320, 384, 768])
def test_small_is_an_eighth_of_the_vectors_and_finds_most(tmp_path, dim):
    n = 5000
    rng = np.random.default_rng(3)
    centres = np.repeat(rng.standard_normal((n // 10, dim), dtype=np.float32), 10, axis=0)
    vectors = centres + 0.7 * rng.standard_normal((n, dim), dtype=np.float32)  # ten that are alike, of each
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[::100] + 0.02 * rng.standard_normal((50, dim), dtype=np.float32)
    np.save(tmp_path / "0.npy", vectors)
    entry = build_dense([tmp_path / "0.npy"], tmp_path / "dense.faiss", factory="small", device="cpu")
    assert entry.factory == dense_entry("small", n, dim).factory == "IVF32,RaBitQ3"
    assert (tmp_path / "dense.faiss").stat().st_size <= 4 * dim * n / 8
    index = DenseIndex.open(tmp_path / "dense.faiss", search="nprobe=32", device="cpu")
    _, rows = index.search(queries, 10)
    exact = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    found = np.mean([np.isin(a, b).mean() for a, b in zip(exact, rows, strict=True)])
    assert found >= 0.95
