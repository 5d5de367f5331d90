"""Tuning scores, against rankings that can be counted."""

import numpy as np
import pytest

from mretrieve.datasets.heldout import held_out_mlqa
from mretrieve.errors import InputError
from mretrieve.train.tuning import (
    Pool,
    Tuning,
    cross_lingual_pool,
    make_pools,
    monolingual_pool,
    rank_pool,
    score_pools,
)
from mretrieve.types import Document, Query

PROMPTS = {"query": "q ", "passage": "p "}


class Model:
    """Embeds a text by a table; texts come with their prompts."""

    def __init__(self, table):
        self.table = table

    def encode(self, texts, **_):
        vectors = np.array([self.table[text] for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_passages_are_ranked_by_cosine():
    pool = Pool("x", [Query("q", "a", "en")], [Document("1", "b"), Document("2", "c")], {"q": {"2": 1}})
    run = rank_pool(Model({"q a": [1, 0], "p b": [0, 5], "p c": [3, 3]}), pool, PROMPTS)
    assert list(run["q"]) == ["2", "1"]
    assert run["q"]["2"] == pytest.approx(0.5**0.5)


def test_scores_are_means_over_languages():
    documents = [Document("1", "b", lang="en"), Document("2", "c", lang="de")]
    first = Model({"q a": [1, 0], "q e": [0, 1], "p b": [1, 0], "p c": [0, 1]})
    pools = [
        Pool("one", [Query("q", "a", "en")], documents, {"q": {"1": 1}}),  # first: 1
        Pool("two", [Query("q", "a", "en")], documents, {"q": {"2": 1}}),  # second: 1 / log2(3)
        Pool("three", [Query("q", "e", "de")], documents, {"q": {"2": 1}}),  # first: 1
        Pool(
            "cross-lingual",
            [Query("q", "a", "en"), Query("r", "e", "en")],
            documents,
            {"q": {"1": 1, "2": 1}, "r": {"1": 1}},
        ),
    ]
    scores = score_pools(first, pools, PROMPTS)
    english = (1 + 1 / np.log2(3)) / 2
    assert scores["ndcg@10_en"] == pytest.approx(english)
    assert scores["monolingual"] == pytest.approx((english + 1) / 2)
    assert scores["cross_map"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["cross_own_language"] == 0.5
    assert scores["score"] == pytest.approx((scores["monolingual"] + scores["cross_map"]) / 2)


def test_sentences_are_ranked_in_one_pool_and_inside_each_language():
    documents = [Document("e1", "b", lang="en"), Document("e2", "c", lang="en")]
    documents += [Document("d1", "d", lang="de"), Document("d2", "f", lang="de")]
    table = {"q a": [1, 0], "p b": [1, 0], "p c": [0.9, 0.1], "p d": [0.7, 0.5], "p f": [0.8, 0.4]}
    pool = Pool("sentences", [Query("q", "a", "en")], documents, {"q": {"e1": 1, "d1": 1}})
    scores = score_pools(Model(table), [pool], PROMPTS)
    # The order is e1, e2, d2, d1.
    assert scores["sentence_map"] == pytest.approx((1 + 2 / 4) / 2)
    assert scores["sentence_mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["sentence_own_language"] == 1.0
    assert scores["score"] == scores["sentence_map"]


def test_pools_are_of_what_is_not_trained_on(root):
    pool = monolingual_pool(root / "train" / "sw-facts", "dev", queries=5, passages=10)
    assert len(pool.queries) == 5 and len(pool.documents) == 10
    assert pool.language == "sw"
    assert {doc_id for judged in pool.qrels.values() for doc_id in judged} <= {
        d.doc_id for d in pool.documents
    }
    cross = cross_lingual_pool(root / "train" / "multi-mlqa", queries=7)
    documents, questions = held_out_mlqa(root / "train" / "multi-mlqa")
    assert {document.doc_id for document in cross.documents} == documents
    assert {query.query_id for query in cross.queries} <= questions and len(cross.queries) == 7
    assert all(len({doc_id[-2:] for doc_id in judged}) == 4 for judged in cross.qrels.values())


def test_nothing_to_tune_on_is_told(root):
    with pytest.raises(InputError, match=r"has no split 'test' to tune on"):
        monolingual_pool(root / "train" / "sw-facts", "test", queries=5, passages=10)
    with pytest.raises(InputError, match=r"has no split 'train' to tune on"):
        monolingual_pool(root / "train" / "sw-facts", "train", queries=5, passages=10)
    with pytest.raises(InputError, match=r"tuning names no folders and no cross_lingual"):
        make_pools(Tuning(root=str(root)), root, [])
