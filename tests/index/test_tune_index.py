"""The cheapest parameters that reach a recall, against exact search by arithmetic."""

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.index.build import build
from mretrieve.index.faiss import DenseIndex, build_dense
from mretrieve.index.manifest import EncoderIdentity, read_manifest
from mretrieve.index.open import open_index
from mretrieve.index.plan import BuildPlan
from mretrieve.index.tune_index import Point, Tuned, hold_queries, tune_search, without_own, write_search
from mretrieve.planning import clustered_vectors
from mretrieve.types import Document

DIM = 32


@pytest.fixture
def opened(tmp_path):
    """A function that builds an index of vectors by a factory, and opens it."""

    def make(vectors, factory):
        np.save(tmp_path / "0.npy", vectors)
        entry = build_dense([tmp_path / "0.npy"], tmp_path / "dense.faiss", factory=factory)
        return DenseIndex.open(tmp_path / "dense.faiss", search=entry.search, device="cpu")

    return make


def best(vectors, queries, top_k):
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :top_k]


def test_exact_hits_of_queries_are_those_of_arithmetic(opened, monkeypatch):
    monkeypatch.setattr("mretrieve.index.tune_index._BLOCK", 300)
    vectors, queries = clustered_vectors(1000, DIM), clustered_vectors(20, DIM, seed=1)
    told = []
    held = hold_queries(
        opened(vectors, "HNSW16"), queries=queries, top_k=5, on_progress=lambda *what: told.append(what)
    )
    assert held.exact.tolist() == best(vectors, queries, 5).tolist()
    assert held.own is None
    assert told == [("exact search", done, 1000) for done in (300, 600, 900, 1000)]


def test_documents_as_queries_do_not_find_themselves(opened):
    vectors = clustered_vectors(500, DIM)
    held = hold_queries(opened(vectors, "IVF4,Flat"), n_queries=50, top_k=5)
    assert len(held.own) == 50
    assert held.exact.tolist() == best(vectors, vectors[held.own], 6)[:, 1:].tolist()
    again = hold_queries(opened(vectors, "IVF4,Flat"), n_queries=50, top_k=5)
    assert again.own.tolist() == held.own.tolist()


def test_given_vectors_are_what_recall_is_taken_of(opened):
    """Half a byte per dimension loses some neighbours; compared with its own codes it would lose none."""
    vectors = clustered_vectors(1000, DIM)
    dense = opened(vectors, "SQ4")
    held = hold_queries(dense, n_queries=50, vectors=vectors)
    assert held.exact.tolist() == best(vectors, vectors[held.own], 11)[:, 1:].tolist()
    recall = tune_search(dense, held, recall=0.5).chosen.recall
    own = tune_search(dense, hold_queries(dense, n_queries=50), recall=0.5).chosen.recall
    assert 0.5 < recall < own


def test_without_own_drops_it_or_else_the_last():
    rows = np.array([[7, 1, 2], [1, 7, 2], [1, 2, 3]])
    assert without_own(rows, np.array([7, 7, 7]), 2).tolist() == [[1, 2], [1, 2], [1, 2]]
    assert without_own(rows, None, 2).tolist() == [[7, 1], [1, 7], [1, 2]]


@pytest.mark.parametrize(
    ("factory", "names"),
    [
        ("HNSW8", {"efSearch"}),
        ("IVF64,Flat", {"nprobe"}),
        ("IVF64_HNSW8,SQ8", {"nprobe", "quantizer_efSearch"}),
        ("IVF16,PQ16x4,Refine(SQ8)", {"nprobe", "k_factor_rf"}),
        ("MRL24,HNSW8,Refine(SQfp16)", {"efSearch", "k_factor_rf"}),
        ("RR32,RaBitQ,Refine(SQ8)", {"k_factor_rf"}),
    ],
)
def test_the_fastest_that_reaches_the_recall_is_chosen(opened, factory, names):
    vectors, queries = clustered_vectors(3000, DIM), clustered_vectors(100, DIM, seed=1)
    dense = opened(vectors, factory)
    held = hold_queries(dense, queries=queries, vectors=vectors)
    tuned = tune_search(dense, held, recall=0.9, factory=factory)
    assert {part.split("=")[0] for part in tuned.chosen.search.split(",")} == names
    reaching = [point for point in tuned.points if point.recall >= 0.9]
    assert tuned.chosen in reaching
    assert tuned.chosen.milliseconds == min(point.milliseconds for point in reaching)
    dense.set_search(tuned.chosen.search)
    _, rows = dense.search(queries, 10)
    exact = best(vectors, queries, 10)
    found = np.mean([len({*a} & {*b}) / 10 for a, b in zip(rows.tolist(), exact.tolist(), strict=True)])
    assert found == pytest.approx(tuned.chosen.recall)
    assert min(point.recall for point in tuned.points) < tuned.chosen.recall or len(tuned.points) == 1


def test_exact_indexes_have_nothing_to_choose_from(opened):
    vectors = clustered_vectors(300, DIM)
    dense = opened(vectors, "Flat")
    tuned = tune_search(dense, hold_queries(dense, n_queries=20), recall=1.0)
    assert [(point.search, point.recall) for point in tuned.points] == [("", 1.0)]


def test_where_none_reaches_the_recall_none_is_chosen(opened):
    vectors = clustered_vectors(1000, DIM)
    dense = opened(vectors, "RaBitQ")
    tuned = tune_search(dense, hold_queries(dense, n_queries=50, vectors=vectors), recall=1.0)
    assert tuned.chosen is None
    assert 0 < tuned.points[0].recall < 1


def test_the_frontier_leaves_out_what_is_slower_and_no_better():
    points = (Point("a", 0.5, 1.0), Point("b", 0.4, 2.0), Point("c", 0.9, 3.0), Point("d", 0.9, 4.0))
    tuned = Tuned("HNSW8", 10, 5, 10, 0.9, 9.0, points, points[2])
    assert [point.search for point in tuned.frontier()] == ["a", "c"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vectors": np.zeros((7, DIM), np.float32)}, "do not fit an index of 300 vectors of 32"),
        ({"queries": np.zeros((0, DIM), np.float32)}, "no queries"),
        ({"top_k": 300}, "too few to take recall of 300"),
    ],
)
def test_what_does_not_fit_is_told(opened, options, said):
    dense = opened(clustered_vectors(300, DIM), "Flat")
    with pytest.raises(InputError, match=said):
        hold_queries(dense, **options)


@pytest.mark.parametrize("recall", [0.0, 1.5])
def test_a_recall_out_of_range_is_told(opened, recall):
    dense = opened(clustered_vectors(300, DIM), "Flat")
    with pytest.raises(InputError, match="above 0 and at most 1"):
        tune_search(dense, hold_queries(dense, n_queries=5), recall=recall)


def make_index(path, factory, vectors):
    documents = [Document(f"d{n}", f"text {n}", lang="en") for n in range(len(vectors))]
    plan = BuildPlan(
        "source", EncoderIdentity("m", "f", DIM), faiss=factory, lexical=False, shard_size=len(vectors)
    )
    build(documents, path, plan=plan, encode=lambda texts: vectors)


def test_written_parameters_are_those_that_the_index_is_searched_with(tmp_path):
    vectors = clustered_vectors(500, DIM)
    path = tmp_path / "index"
    make_index(path, "IVF8,Flat", vectors)
    before, reader = read_manifest(path), open_index(path)
    write_search(path, "nprobe=8")
    after = read_manifest(path)
    assert (before.dense.search, after.dense.search) == ("nprobe=16", "nprobe=8")
    assert (after.files, after.documents, after.plan) == (before.files, before.documents, before.plan)
    assert reader.is_replaced
    _, rows = open_index(path).dense.search(vectors[:20], 10)
    assert rows.tolist() == best(vectors, vectors[:20], 10).tolist()  # all eight lists: exact


def test_an_index_of_words_alone_has_nothing_to_write(small_index, tmp_path):
    import dataclasses
    import shutil

    path = tmp_path / "copy"
    shutil.copytree(small_index, path)
    (path / "manifest.json").write_text(dataclasses.replace(read_manifest(path), dense=None).to_json())
    with pytest.raises(InputError, match="no dense part"):
        write_search(path, "nprobe=1")
