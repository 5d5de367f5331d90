import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.mine.candidates import Candidates
from mretrieve.mine.false_negatives import drop_false_negatives
from mretrieve.mine.relations import Relations
from mretrieve.mine.retrieve import retrieve
from mretrieve.mine.thresholds import Threshold
from mretrieve.types import Document, Query
from tests.mine.conftest import candidate

LONG = "The river rises in the mountains and flows through three countries before it meets the sea."


class GivenScores:
    """Scores by the document's id."""

    name = "given"

    def __init__(self, **scores):
        self.scores = scores

    def score(self, queries, documents):
        return [
            np.array([self.scores.get(one.doc_id, 0.0) for one in some], np.float32) for some in documents
        ]


class Shelf:
    """A pool of which only the documents are asked."""

    def __init__(self, *documents):
        self.held = documents

    def rows(self, doc_ids):
        return [[one.doc_id for one in self.held].index(doc_id) for doc_id in doc_ids]

    def documents(self, rows):
        return [self.held[row] for row in rows]


QUERY = Query("q", "what?", "en")


def drop(found, qrels, *, scores=None, pool=None, query=QUERY, **options):
    return drop_false_negatives(
        [Candidates(query, tuple(found))],
        qrels,
        pool or Shelf(Document("p", "the answer", lang="en")),
        scorer=GivenScores(**(scores or {})),
        **options,
    )


def ids(one):
    return [c.document.doc_id for c in one.found]


def reasons(one):
    return {dropped.candidate.document.doc_id: dropped.reason for dropped in one.dropped}


def test_limits_are_shares_of_the_positives_score():
    found = [candidate("a"), candidate("b"), candidate("c")]
    [one] = drop(found, {"q": {"p": 1}}, scores={"p": 0.8, "a": 0.77, "b": 0.75, "c": 0.1})
    assert (ids(one), reasons(one)) == (["b", "c"], {"a": "scored too near the positive"})
    assert one.positive.score == pytest.approx(0.8)
    assert [c.score for c in one.found] == pytest.approx([0.75, 0.1])
    assert one.dropped[0].candidate.score == pytest.approx(0.77)


def test_each_positive_has_its_own_limit_and_is_no_negative_of_the_other():
    found = [candidate("p2", rank=1), candidate("a", rank=2)]
    scores = {"p": 0.9, "p2": 0.5, "a": 0.6}
    first, second = drop(found, {"q": {"p": 1, "p2": 1}}, scores=scores)
    assert (first.positive.document.doc_id, first.positive.rank, ids(first)) == ("p", 0, ["a"])
    assert (second.positive.document.doc_id, second.positive.rank, ids(second)) == ("p2", 1, [])
    assert reasons(first) == {"p2": "judged relevant"}
    assert reasons(second) == {"a": "scored too near the positive"}


def test_what_was_judged_as_not_relevant_stays():
    [one] = drop(
        [candidate("a"), candidate("b")], {"q": {"p": 1, "a": 0}}, scores={"p": 0.5, "a": 0.9, "b": 0.9}
    )
    assert ids(one) == ["a"]
    assert one.found[0].judged


def test_texts_nearly_equal_to_the_positive():
    pool = Shelf(Document("p", LONG))
    found = [candidate("a", text=LONG.upper()), candidate("b", text=f"And so: {LONG}"), candidate("c")]
    [one] = drop(found, {"q": {"p": 1}}, pool=pool, scores={"p": 1.0})
    assert reasons(one) == dict.fromkeys("ab", "nearly equal to a positive")
    [one] = drop(found, {"q": {"p": 1}}, pool=pool, scores={"p": 1.0}, max_overlap=1.0)
    assert ids(one) == ["a", "b", "c"]


def test_a_text_that_is_there_twice():
    found = [candidate("a", text="One and only."), candidate("b", text="one and  only")]
    [one] = drop(found, {"q": {"p": 1}}, scores={"p": 1.0})
    assert (ids(one), reasons(one)) == (["a"], {"b": "repeats another candidate"})


def test_what_is_known_otherwise():
    relations = Relations([QUERY], {"q": {"p": 1}}, groups={"p": "page", "x": "page"})
    [one] = drop([candidate("x"), candidate("a")], {"q": {"p": 1}}, scores={"p": 1.0}, relations=relations)
    assert (ids(one), reasons(one)) == (["a"], {"x": "parallel to a positive"})


def test_queries_without_a_positive_are_left_out():
    assert drop([candidate("a")], {"q": {"a": 0}}) == []
    assert drop([candidate("a")], {}) == []


def test_a_second_scorer_looks_at_what_the_first_left():
    found = [candidate("a"), candidate("b"), candidate("c")]
    first = drop(found, {"q": {"p": 1}}, scores={"p": 0.8, "a": 0.79, "b": 0.5, "c": 0.4})
    [second] = drop_false_negatives(
        first, {"q": {"p": 1}}, Shelf(), scorer=GivenScores(p=0.9, b=0.95, c=0.2), threshold=Threshold(0.5)
    )
    assert ids(second) == ["c"]
    assert second.positive.score == pytest.approx(0.9)
    assert reasons(second) == dict.fromkeys("ab", "scored too near the positive")


def test_with_a_real_index(pool, data, questions):
    """The positive is scored although it was not found, by the pool's own model."""
    candidates = retrieve(questions[:10], pool, top_k=3, mode="dense")
    pairs = drop_false_negatives(candidates, data.qrels, pool, threshold=Threshold(max_ratio=1.0))
    assert [one.query for one in pairs] == questions[:10]
    for one in pairs:
        query = pool.encode([one.query])[0]
        vectors = pool.vectors.get(pool.rows([one.positive.document.doc_id, *ids(one)]))
        assert [one.positive.score, *(c.score for c in one.found)] == pytest.approx(
            (vectors @ query).tolist()
        )
        assert all(c.score <= one.positive.score for c in one.found)


def test_a_positive_that_the_pool_does_not_hold(pool, questions):
    candidates = retrieve(questions[:1], pool, top_k=3, mode="dense")
    with pytest.raises(InputError, match="does not hold the document 'gone'"):
        drop_false_negatives(candidates, {questions[0].query_id: {"gone": 1}}, pool)
