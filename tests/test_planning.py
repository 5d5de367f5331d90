"""A plan's figures against a real build of ten thousand vectors."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.index.faiss import build_dense
from mretrieve.planning import Rates, clustered_vectors, measured_rates, plan_index

DIM = 64
N = 10_000
RATES = Rates(
    dim=DIM,
    threads=1,
    products_per_second=1e9,
    graph_seconds=1e-3,
    graph_vectors=4096,
    product_training_seconds=1e-3,
    product_seconds=1e-4,
    scalar_seconds=1e-6,
    bytes_per_second=1e6,
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["HNSW32", "IVF64,PQ8,Refine(SQ8)"])
def test_a_real_build_takes_what_was_planned(cache, tmp_path, factory):
    """Sizes within 2%; time within a factor of 5, since other work on the machine slows either."""
    rates = measured_rates(DIM)
    cost = plan_index(N, DIM, faiss=factory, rates=rates)
    np.save(tmp_path / "0.npy", clustered_vectors(N, DIM))
    start = time.perf_counter()
    build_dense([tmp_path / "0.npy"], tmp_path / "dense.faiss", factory=factory)
    spent = time.perf_counter() - start
    size = (tmp_path / "dense.faiss").stat().st_size
    assert cost.disk_bytes == pytest.approx(size, rel=0.02)
    assert cost.ram_searching_bytes + cost.rescoring_bytes == pytest.approx(size, rel=0.02)
    assert cost.disk_while_building_bytes == pytest.approx(size + N * DIM * 4, rel=0.02)
    assert spent / 5 < cost.building_seconds < spent * 5


def test_rates_are_measured_once_and_silently(cache, monkeypatch, capfd):
    first = measured_rates(8)
    assert first.dim == 8
    assert capfd.readouterr().err == ""  # FAISS writes warnings there
    assert all(value > 0 for value in json.loads(next((cache / "plan").iterdir()).read_text()).values())
    assert [path.suffix for path in (cache / "plan").iterdir()] == [".json"]
    changed = replace(first, scalar_seconds=7.0)
    monkeypatch.setattr("mretrieve.planning._measure", lambda *arguments: changed)
    assert measured_rates(8) == first
    assert measured_rates(8, again=True) == changed == measured_rates(8)


def test_damaged_rates_are_measured_anew(cache):
    first = measured_rates(8)
    path = next((cache / "plan").iterdir())
    path.write_text('{"dim": 8}')
    assert measured_rates(8).dim == first.dim
    assert json.loads(path.read_text()).keys() >= {"dim", "graph_seconds"}


def test_time_is_the_sum_of_the_steps():
    """A flat index: vectors are copied, then 2.56 MB are written at 1 MB/s."""
    cost = plan_index(N, DIM, faiss="Flat", rates=RATES)
    assert cost.building_seconds == pytest.approx(N * 1e-6 + N * DIM * 4 / 1e6, rel=1e-3)
    assert (cost.disk_bytes, cost.gpu_bytes, cost.rescoring_bytes) == (N * DIM * 4, N * DIM * 4, 0)
    assert cost.encoding_seconds is None


def test_a_graph_slows_with_the_logarithm_of_its_size():
    small, large = (
        plan_index(n, DIM, faiss="HNSW32", rates=replace(RATES, bytes_per_second=1e15))
        for n in (4096, 4096**2)
    )
    assert small.building_seconds == pytest.approx(4096 * (1e-3 + 1e-6), rel=1e-3)
    assert large.building_seconds == pytest.approx(4096**2 * (2e-3 + 1e-6), rel=1e-3)
    assert large.gpu_bytes is None


def test_encoding_is_counted_where_its_rate_is_known():
    assert plan_index(N, DIM, rates=RATES, documents_per_second=50).encoding_seconds == N / 50


@pytest.mark.parametrize(("n", "dim"), [(0, 8), (5, 0)])
def test_numbers_out_of_range(n, dim):
    with pytest.raises(InputError, match="at least 1"):
        plan_index(n, dim, rates=RATES)
