"""Sizes by arithmetic are those of real files."""

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.index.faiss import build_dense
from mretrieve.index.sizes import index_needs
from mretrieve.planning import clustered_vectors

DIM = 64
N = 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "factory",
    [
        "Flat",
        "SQ8",
        "SQfp16",
        "HNSW16",
        "HNSW32_SQ8",
        "IVF64,Flat",
        "IVF64,SQ8",
        "IVF64,PQ8",
        "IVF64_HNSW16,PQ8x4,Refine(SQ8)",
        "RR64,IVF64,PQ8x4,Refine(SQfp16)",
        "RR64,RaBitQ,Refine(SQ8)",
        "IVF64,RaBitQ3",
        "MRL16,IVF64,Flat,Refine(SQ8)",
        "IVF64,PQ8x4,Refine(PQ16x4)",
    ],
)
def test_a_real_file_of_ten_thousand_vectors_has_the_planned_size(tmp_path, factory, monkeypatch):
    # Centroids of fewer vectors than FAISS likes are as large, and quick.
    monkeypatch.setattr("mretrieve.index.faiss._MIN_TRAINING", N)
    np.save(tmp_path / "0.npy", clustered_vectors(N, DIM))
    build_dense([tmp_path / "0.npy"], tmp_path / "dense.faiss", factory=factory)
    planned = index_needs(factory, N, DIM)
    assert planned.file_bytes == pytest.approx((tmp_path / "dense.faiss").stat().st_size, rel=0.02)


def test_parts_of_an_index_with_re_scoring():
    """A million vectors of 64 dimensions: 8 bytes of code and 8 of id, then 64 bytes that score again."""
    needs = index_needs("IVF64,PQ8,Refine(SQ8)", 10**6, 64)
    assert needs.first_bytes == pytest.approx(16e6, rel=0.01)
    assert needs.second_bytes == pytest.approx(64e6, rel=0.01)
    assert needs.on_gpu
    # Ten rounds over 256 x 64 vectors, then all once: each product of 64 lists and 64 dimensions.
    assert needs.products == (10 * 256 * 64 + 10**6) * 2 * 64 * 64
    assert (needs.product_codes, needs.scalar_codes, needs.graph_nodes) == (10**6, 10**6, ())


def test_a_graph_has_no_form_for_gpus_but_centroids_may_have_a_graph():
    assert not index_needs("HNSW32", 1000, 64).on_gpu
    assert not index_needs("small", 1000, 64).on_gpu
    needs = index_needs("IVF64_HNSW32,Flat", 1000, 64)
    assert needs.on_gpu
    assert needs.graph_nodes == ((64, 64), (1000, 64))


def test_the_largest_are_planned_without_being_built():
    needs = index_needs("auto", 106_000_000, 768)
    assert needs.factory == "IVF32768_HNSW32,PQ96,Refine(SQ8)"
    assert needs.first_bytes == pytest.approx(106e6 * (96 + 8), rel=0.02)
    assert needs.second_bytes == pytest.approx(106e6 * 768, rel=0.01)


def test_a_factory_that_faiss_does_not_know():
    with pytest.raises(InputError, match="Flart"):
        index_needs("Flart", 10, 8)
