import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mretrieve.index.documents import DocumentStore, merge_shards, write_shard
from mretrieve.index.faiss import DenseIndex, load_faiss
from mretrieve.index.joined import JoinedDense, JoinedDocuments, LivingSearcher
from mretrieve.index.live import LiveRows
from mretrieve.types import Document

DELETED = np.array([1, 4, 6], np.int64)
PARTS = (("en", "sw", "sw"), ("en", "", "ar", "sw"), ("sw",))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Documents 0 to 7 in three stores, in shards of two."""
    folder, made, number = tmp_path_factory.mktemp("stores"), [], 0
    for part, langs in enumerate(PARTS):
        shards = []
        for start in range(0, len(langs), 2):
            documents = []
            for lang in langs[start : start + 2]:
                documents.append(Document(f"d{number}", f"text {number}", lang=lang))
                number += 1
            shards.append(folder / f"{part}-{start}.arrow")
            write_shard(shards[-1], documents)
        merge_shards(shards, folder / f"{part}.arrow")
        made.append(DocumentStore(folder / f"{part}.arrow"))
    return made


@pytest.fixture
def documents(stores):
    """Rows 0 to 4 are d0, d2, d3, d5, d7."""
    return JoinedDocuments(stores, LiveRows(DELETED))


def test_rows_go_through_all_stores_and_leave_out_the_dead(documents):
    assert len(documents) == 5
    assert documents.doc_ids([4, 0, 1, 4]) == ["d7", "d0", "d2", "d7"]
    assert [one.text for one in documents.get(range(1, 4))] == ["text 2", "text 3", "text 5"]
    assert documents.get([]) == []
    for rows in ([5], [-1, 0]):
        with pytest.raises(IndexError, match="not all among 5 documents"):
            documents.get(rows)


def test_languages_are_those_of_the_living(documents):
    assert documents.languages() == {"ar": 1, "en": 2, "sw": 2}
    assert documents.rows_of("sw").tolist() == [1, 4]
    assert documents.rows_of("und").tolist() == documents.rows_of("de").tolist() == []
    assert documents.numbers_of("sw").deleted.tolist() == [0, 2]  # d1 and d6 of d1, d2, d6, d7
    assert documents.in_languages(np.array([4, 0, 3]), ["sw", "ar"]).tolist() == [True, False, True]


def test_ids_of_the_dead_are_not_found(documents):
    assert documents.places_of_ids({"d0", "d1", "d7", "x"}).tolist() == [0, 7]


def flat(vectors, factory="Flat"):
    faiss = load_faiss()
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    return DenseIndex(index)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_vectors_are_ranked_as_if_they_were_in_one_index(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    vectors = rng.integers(-2, 3, size=(sum(sizes), 3)).astype(np.float32)  # with many equal scores
    dead = np.flatnonzero(rng.random(len(vectors)) < data.draw(st.sampled_from([0, 0.2, 0.9])))
    living = np.setdiff1d(np.arange(len(vectors)), dead)
    top_k = data.draw(st.integers(1, 20))
    queries = rng.integers(-2, 3, size=(2, 3)).astype(np.float32)
    joined = JoinedDense([flat(p) for p in np.split(vectors, np.cumsum(sizes)[:-1])], LiveRows(dead))
    assert (len(joined), joined.dim) == (len(living), 3)
    all_rows = np.arange(len(living))
    for among in (None, all_rows[::2]):
        chosen = all_rows if among is None else among
        truth = queries @ vectors[living[chosen]].T
        order = np.argsort(-truth, axis=1, kind="stable")[:, :top_k]
        scores, rows = joined.search(queries, top_k, among=among)
        assert rows.tolist() == chosen[order].tolist()
        np.testing.assert_allclose(scores, np.take_along_axis(truth, order, axis=1))


def test_an_approximate_index_that_finds_too_few_says_so():
    """A graph of two islands cannot be had by force, so a searcher stands in for it that gives up early."""

    class Shy:
        dim = 2

        def __len__(self):
            return 50

        def search(self, queries, top_k, *, among=None):
            rows = np.full((len(queries), top_k), -1)
            rows[:, :2] = [0, 1]
            return np.where(rows < 0, np.float32(-np.inf), np.float32(1)), rows

    joined = JoinedDense([Shy()], LiveRows(np.array([1])))
    scores, rows = joined.search(np.ones((1, 2), np.float32), 3)
    assert rows.tolist() == [[0, -1, -1]]
    assert scores.tolist() == [[1, -np.inf, -np.inf]]


def test_words_are_searched_deeper_until_enough_of_them_live():
    asked = []

    class Searcher:
        def search(self, query, top_k):
            asked.append(top_k)
            rows = np.arange(min(top_k, 40))
            return rows, -rows.astype(np.float32)

        def close(self):
            asked.append("closed")

    living = LivingSearcher(Searcher(), LiveRows(np.arange(30)))
    rows, scores = living.search("x", 3)
    assert (rows.tolist(), scores.tolist()) == ([0, 1, 2], [-30, -31, -32])
    assert asked == [6, 24, 33]
    assert living.search("x", 100)[0].tolist() == list(range(10))
    living.close()
    assert asked[-1] == "closed"
