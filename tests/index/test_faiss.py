import re
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index.faiss import (
    DenseIndex,
    build_dense,
    check_factory,
    choose_factory,
    dense_entry,
    load_faiss,
)

DIM = 32


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for each other on a busy machine make training on few vectors slow."""
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(n_threads)


def unit_vectors(n, dim=DIM, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((n, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def built(folder, vectors, factory="auto", shard_size=300):
    shards = []
    for start in range(0, len(vectors), shard_size):
        shards.append(folder / f"{start}.npy")
        np.save(shards[-1], vectors[start : start + shard_size])
    entry = build_dense(shards, folder / "dense.faiss", factory=factory)
    return entry, DenseIndex.open(folder / "dense.faiss", search=entry.search)


def best(vectors, queries, top_k):
    """Exact search by arithmetic: rows by descending product, equal products by row."""
    scores = queries @ vectors.T
    return np.argsort(-scores, axis=1, kind="stable")[:, :top_k]


def test_auto_finds_exactly_what_arithmetic_finds(tmp_path):
    vectors, queries = unit_vectors(1000), unit_vectors(50, seed=1)
    entry, index = built(tmp_path, vectors)
    scores, rows = index.search(queries, 10)
    assert (entry.factory, entry.search, len(index), index.dim) == ("Flat", "", 1000, DIM)
    assert (rows == best(vectors, queries, 10)).all()
    assert scores == pytest.approx(np.take_along_axis(queries @ vectors.T, rows, axis=1), abs=1e-6)
    assert (scores.dtype, rows.dtype, rows.shape) == (np.float32, np.int64, (50, 10))


@pytest.mark.parametrize(
    ("factory", "search", "recall"),
    [
        ("HNSW32", "efSearch=128", 0.99),
        ("IVF8,Flat", "nprobe=16", 0.999),
        ("IVF8_HNSW8,SQ8", "nprobe=16,quantizer_efSearch=32", 0.9),
        ("IVF8,PQ16x4,Refine(SQ8)", "k_factor_rf=4,nprobe=16", 0.7),
        ("PCA32,Flat", "", 0.9),
        ("HNSW16,Flat", "efSearch=128", 0.99),
    ],
)
def test_factories_find_most_of_the_exact_neighbours(tmp_path, factory, search, recall):
    vectors, queries = unit_vectors(2000), unit_vectors(50, seed=1)
    entry, index = built(tmp_path, vectors, factory)
    _, rows = index.search(queries, 10)
    exact = best(vectors, queries, 10)
    found = np.mean([len({*a} & {*b}) / 10 for a, b in zip(rows.tolist(), exact.tolist(), strict=True)])
    assert entry.factory == factory
    assert entry.search == search
    assert found >= recall


def test_auto_is_exact_then_a_graph_then_codes():
    assert choose_factory(1, 384) == choose_factory(100_000, 384) == "Flat"
    assert choose_factory(100_001, 384) == choose_factory(5_000_000, 384) == "HNSW32"
    # 4 sqrt(6e6) = 9,798: the nearest power of two is 8,192; 384 / 8 dimensions per code.
    assert choose_factory(6_000_000, 384) == "IVF8192_HNSW32,PQ48,Refine(SQ8)"


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 2048), st.sampled_from([10, 200_000, 5_000_001, 10**9]))
def test_auto_is_a_factory_of_faiss_for_any_dimension(dim, n_vectors):
    check_factory(choose_factory(n_vectors, dim), dim)


def test_search_parameters_of_the_largest_indexes():
    entry = dense_entry("auto", 6_000_000, 384)
    # 8,192 lists / 64 = 128 are looked at, found by a graph of twice that width, and 4 k scored again.
    assert sorted(entry.search.split(",")) == ["k_factor_rf=4", "nprobe=128", "quantizer_efSearch=256"]


@pytest.mark.parametrize("n_queries", [1, 40])
def test_equal_scores_are_in_order_of_rows_and_cut_there(tmp_path, n_queries):
    """Ten copies of each of 50 vectors: a cut within ten equal scores keeps the first rows."""
    vectors = np.eye(50, dtype=np.float32)[np.arange(500) % 50]
    _, index = built(tmp_path, vectors)
    queries = np.repeat(
        0.8 * np.eye(50, dtype=np.float32)[3:4] + 0.6 * np.eye(50, dtype=np.float32)[7], n_queries, 0
    )
    for top_k in (1, 5, 10, 13, 20, 25, 500):
        scores, rows = index.search(queries, top_k)
        assert rows.tolist() == best(vectors, queries, top_k).tolist()
        assert rows[0, :3].tolist() == [3, 53, 103][:top_k]
        assert scores[0, 0] == pytest.approx(0.8)


def test_more_than_there_are_gives_all(tmp_path):
    vectors = unit_vectors(7)
    _, index = built(tmp_path, vectors)
    scores, rows = index.search(vectors[:2], 1000)
    assert rows.shape == scores.shape == (2, 7)
    assert sorted(rows[0].tolist()) == list(range(7))


def test_what_an_approximate_index_does_not_find_is_minus_one_at_the_end(tmp_path):
    vectors = np.concatenate([unit_vectors(300), -unit_vectors(5, seed=2)])
    entry, _ = built(tmp_path, vectors, "IVF64,Flat")
    index = DenseIndex.open(tmp_path / "dense.faiss", search="nprobe=1")
    scores, rows = index.search(vectors[:4], 200)
    assert entry.search == "nprobe=16"
    n_found = (rows >= 0).sum(axis=1)
    assert (n_found < 200).all()
    for query in range(4):
        assert rows[query, 0] == query
        assert (rows[query, n_found[query] :] == -1).all()
        assert np.isneginf(scores[query, n_found[query] :]).all()


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF16,Flat", "IVF16,SQ8"])
def test_an_index_is_memory_mapped(tmp_path, factory):
    vectors = unit_vectors(5_000, 64)
    built(tmp_path, vectors, factory, shard_size=2000)
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc/self/smaps")
    index = DenseIndex.open(tmp_path / "dense.faiss")
    with open("/proc/self/maps") as maps:
        assert any(line.rstrip().endswith(str(tmp_path / "dense.faiss")) for line in maps)
    assert index.search(vectors[:1], 1)[1][0, 0] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_a_search_reads_the_lists_that_it_probes_and_leaves_the_rest_on_the_disk(tmp_path):
    vectors = unit_vectors(40_000, 512)
    built(tmp_path, vectors, "IVF64,Flat", shard_size=20_000)

    def resident():
        status = Path("/proc/self/status").read_text("ascii")
        return sum(1024 * int(n) for n in re.findall(r"Rss(?:Anon|File):\s+(\d+)", status))

    before = resident()
    index = DenseIndex.open(tmp_path / "dense.faiss", search="nprobe=2")
    assert index.search(vectors[:1], 1)[1][0, 0] == 0
    size = (tmp_path / "dense.faiss").stat().st_size
    assert size > vectors.nbytes and resident() - before < size / 4


def test_no_queries_give_no_hits(tmp_path):
    _, index = built(tmp_path, unit_vectors(10))
    scores, rows = index.search(np.empty((0, DIM), dtype=np.float32), 3)
    assert scores.shape == rows.shape == (0, 3)


@pytest.mark.parametrize("queries", [np.zeros((2, 8), np.float32), np.zeros(DIM, np.float32)])
def test_queries_of_another_shape_are_told(tmp_path, queries):
    _, index = built(tmp_path, unit_vectors(10))
    with pytest.raises(InputError, match="do not fit an index of 32 dimensions: encode them with the model"):
        index.search(queries, 3)


def test_top_k_below_one_is_an_error(tmp_path):
    _, index = built(tmp_path, unit_vectors(10))
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        index.search(unit_vectors(1), 0)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("Flart", "could not parse index string Flart"),
        ("", "could not parse index string"),
        ("PQ7", "should be a multiple of the number of subquantizers"),
        ("HNSW32,Foo", "could not parse HNSW code description Foo"),
        ("Flat,Refine(", "unbalanced parentheses"),
        ("LSH", "METRIC_L2"),
    ],
)
def test_a_bad_factory_tells_the_reason_of_faiss_and_examples(factory, reason):
    with pytest.raises(InputError) as caught:
        check_factory(factory, 384)
    message = str(caught.value)
    assert reason in message
    assert "HNSW32, IVF4096,Flat" in message
    assert "/project/faiss" not in message and "std::" not in message


def test_ids_of_faiss_are_refused():
    with pytest.raises(InputError, match="leave IDMap out"):
        check_factory("IDMap,Flat", 384)


def test_too_few_vectors_for_a_factory_are_told(tmp_path):
    with pytest.raises(
        InputError, match=r"IVF64,Flat' for 50 vectors: .*at least as large as number of clusters"
    ):
        built(tmp_path, unit_vectors(50), "IVF64,Flat")
    assert not (tmp_path / "dense.faiss").exists()


def test_training_takes_the_same_sample_each_time(tmp_path):
    entry_bytes = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        built(tmp_path / name, unit_vectors(1000), "IVF4,SQ8", shard_size=300)
        entry_bytes.append((tmp_path / name / "dense.faiss").read_bytes())
    assert entry_bytes[0] == entry_bytes[1]


@pytest.mark.parametrize("n_bytes", [0, 3, 60, 2000])
def test_a_damaged_file_is_told(tmp_path, n_bytes):
    built(tmp_path, unit_vectors(100))
    path = tmp_path / "cut.faiss"
    path.write_bytes((tmp_path / "dense.faiss").read_bytes()[:n_bytes])
    with pytest.raises(InputError, match=r"Cannot read .*cut\.faiss.*damaged.*--overwrite"):
        DenseIndex.open(path)


def test_unknown_search_parameters_are_told(tmp_path):
    built(tmp_path, unit_vectors(10))
    with pytest.raises(InputError, match="no search parameters 'nprobe=3'"):
        DenseIndex.open(tmp_path / "dense.faiss", search="nprobe=3")


def test_without_faiss_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'mretrieve\[cpu\]'.*mretrieve\[gpu\]"):
        load_faiss()


def test_load_faiss_gives_the_library_not_this_module():
    assert load_faiss() is faiss
    assert hasattr(load_faiss(), "index_factory")


def best_among(vectors, queries, top_k, among):
    """Exact search among some rows by arithmetic."""
    return among[best(vectors[among], queries, top_k)]


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "SQ8", "IVF8,Flat"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_among_some_rows_the_nearest_of_these_are_found(tmp_path, factory, share):
    """Whole vectors are compared one by one; inverted lists are asked for more, here for all lists."""
    vectors, queries = unit_vectors(2000), unit_vectors(20, seed=1)
    _, index = built(tmp_path, vectors, factory)
    among = np.flatnonzero(np.random.default_rng(5).random(2000) < share)
    scores, rows = index.search(queries, 10, among=among)
    expected = best_among(vectors, queries, 10, among)
    assert np.isin(rows, among).all()
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    if factory == "SQ8":  # a byte for each number
        assert np.mean(rows == expected) > 0.8
    else:
        assert rows.tolist() == expected.tolist()
        assert scores == pytest.approx(np.take_along_axis(queries @ vectors.T, rows, axis=1), abs=1e-6)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)


def test_scanning_goes_by_parts_and_keeps_equal_scores_in_order_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("mretrieve.index.faiss._SCAN_ROWS", 7)
    vectors = np.eye(50, dtype=np.float32)[np.arange(500) % 50]
    _, index = built(tmp_path, vectors)
    among = np.arange(1, 500, 2)
    queries = np.eye(50, dtype=np.float32)[3:4, :]
    _, rows = index.search(queries, 12, among=among)
    assert rows.tolist() == best_among(vectors, queries, 12, among).tolist()
    assert rows[0, :3].tolist() == [3, 53, 103]


def test_among_more_rows_than_are_scanned_more_of_the_best_are_looked_at(tmp_path, monkeypatch):
    vectors, queries = unit_vectors(2000), unit_vectors(5, seed=1)
    _, index = built(tmp_path, vectors)
    monkeypatch.setattr("mretrieve.index.faiss.EXACT_UP_TO", 10)
    worst_half = np.sort(np.argsort(queries[0] @ vectors.T)[:1000])  # none of the first query's best 1,000
    for among in (np.arange(0, 2000, 3), worst_half):
        scores, rows = index.search(queries, 10, among=among)
        assert rows.tolist() == best_among(vectors, queries, 10, among).tolist()


def test_among_few_or_no_rows(tmp_path):
    vectors = unit_vectors(100)
    _, index = built(tmp_path, vectors)
    scores, rows = index.search(vectors[:3], 10, among=np.array([4, 8], np.int64))
    assert (scores.shape, sorted(rows[0].tolist())) == ((3, 2), [4, 8])
    scores, rows = index.search(vectors[:3], 10, among=np.empty(0, np.int64))
    assert scores.shape == rows.shape == (3, 0)
    assert index.search(vectors[:1], 100, among=np.arange(100))[1].shape == (1, 100)


def test_where_a_device_gives_so_many_no_more_are_asked_for(tmp_path, monkeypatch):
    """As FAISS on GPUs, which gives 2,048 at most: what is not among them is not found."""
    vectors = unit_vectors(300)
    monkeypatch.setattr("mretrieve.index.faiss.EXACT_UP_TO", 0)
    _, whole = built(tmp_path, vectors)
    limited = DenseIndex(whole._index, most=20)
    query = vectors[:1]
    order = np.argsort(-(query @ vectors.T)[0], kind="stable")
    scores, rows = limited.search(query, 10, among=np.sort(order[15:]))
    assert rows[0].tolist() == [*order[15:20].tolist(), *[-1] * 5]
    assert np.isneginf(scores[0, 5:]).all()
