"""Weights learned from rankings whose right answers are known by construction."""

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.rank.fusion import Fusion, Ranking
from mretrieve.rank.ranked import Ranked
from mretrieve.rank.retriever import Retriever
from mretrieve.rank.tune import (
    LEAST_QUERIES,
    WEIGHTS,
    Question,
    as_questions,
    candidate_fusions,
    choose,
    learn_weights,
    tune,
)
from mretrieve.types import Query
from tests.conftest import write_jsonl

IDS = {row: f"d{row}" for row in range(40)}


def leg(draw, right, chance):
    """Twenty rows with falling scores; the right one is first with a chance, else somewhere behind."""
    rows = draw.permutation([row for row in range(40) if row != right])[:19]
    place = 0 if draw.random() < chance else int(draw.integers(1, 20))
    return Ranking(np.insert(rows, place, right).astype(np.int64), np.linspace(1, 0, 20, dtype=np.float32))


def questions(n, dense, bm25, seed=1):
    draw = np.random.default_rng(seed)
    made, qrels = [], {}
    for number in range(n):
        right = int(draw.integers(40))
        legs = leg(draw, right, dense), leg(draw, right, bm25)
        made.append(Question(f"q{number}", Ranked(legs[0], dense=legs[0], bm25=legs[1]), IDS))
        qrels[f"q{number}"] = {IDS[right]: 1}
    return made, qrels


@pytest.mark.parametrize(("dense", "bm25"), [(0.95, 0.05), (0.05, 0.95)])
def test_a_leg_that_is_always_worse_is_given_little_weight(dense, bm25):
    made, qrels = questions(200, dense, bm25)
    learned = learn_weights(made, qrels, Fusion())
    weight = Fusion.parse(learned.fusion).parameter
    assert weight > 0.7 if dense > bm25 else weight < 0.3
    assert learned.after > learned.before
    assert learned.after >= max(learned.dense, learned.bm25)
    assert learned.queries == 200


def test_legs_that_help_each_other_keep_weights_like_the_index_s_own():
    made, qrels = questions(200, 0.6, 0.6)
    learned = learn_weights(made, qrels, Fusion())
    assert 0.35 <= Fusion.parse(learned.fusion).parameter <= 0.65
    assert learned.after >= learned.before > max(learned.dense, learned.bm25)


@pytest.mark.parametrize("seed", range(8))
def test_no_choice_is_below_the_better_leg(seed):
    draw = np.random.default_rng(seed)
    made, qrels = questions(40, *draw.random(2), seed=seed)
    learned = learn_weights(made, qrels, Fusion("minmax", 0.5))
    assert learned.after >= max(learned.dense, learned.bm25, learned.before) - 1e-12


def uneven_questions(draw, n):
    """Questions whose BM25 finds few documents, but mostly the right one, in a collection of languages."""
    made, qrels = [], {}
    for number in range(n):
        right = int(draw.integers(40))
        dense = leg(draw, right, 0.05)
        others = draw.permutation([row for row in range(40) if row != right])[: int(draw.integers(0, 4))]
        rows = np.append(others[:1], [right, *others[1:]]) if draw.random() < 0.95 else others
        bm25 = Ranking(rows.astype(np.int64), np.linspace(9, 8, len(rows), dtype=np.float32))
        ranked = Ranked(dense, dense=dense, bm25=bm25, seen=draw.random(len(dense.rows)) < 0.5)
        made.append(Question(f"q{number}", ranked, IDS))
        qrels[f"q{number}"] = {IDS[right]: 1}
    return made, qrels


@pytest.mark.parametrize("own", ["zscore:0.5", "minmax:0.2", "rrf:60"])
@pytest.mark.parametrize("seed", range(8))
def test_no_choice_is_below_the_better_leg_of_uneven_ones(seed, own):
    made, qrels = uneven_questions(np.random.default_rng(seed), 40)
    learned = learn_weights(made, qrels, Fusion.parse(own))
    assert learned.after >= max(learned.dense, learned.bm25, learned.before) - 1e-12


def test_weights_of_one_half_of_the_questions_serve_the_other():
    made, qrels = questions(400, 0.9, 0.3)
    learned = learn_weights(made[:200], qrels, Fusion())
    unseen = learn_weights(made[200:], qrels, Fusion.parse(learned.fusion))
    assert unseen.before > learn_weights(made[200:], qrels, Fusion()).before


def test_candidates_start_from_the_index_s_own():
    tried = candidate_fusions(Fusion("minmax", 0.3))
    assert tried[0] == Fusion("minmax", 0.3)
    assert sorted(one.parameter for one in tried) == sorted(WEIGHTS)
    distances = [abs(one.parameter - 0.3) for one in tried]
    assert distances == sorted(distances)
    rrf = candidate_fusions(Fusion("rrf", 60))
    assert (str(rrf[0]), str(rrf[1])) == ("rrf:60", "zscore:0.5")
    assert {one.unseen for one in candidate_fusions(Fusion(unseen=0.2))} == {0.2}


def test_choose_by_hand():
    # The third is best by 0.1 a question without exception; the first and the second are alike.
    sure = np.array([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7], [0.6, 0.7, 0.8]])
    assert choose(sure, floor=0.0) == 2
    # It is best by 1/3 of a point in the mean, but by one question of three only: no standard error.
    unsure = np.array([[0.5, 0.6, 0.7], [0.5, 0.6, 0.71]])
    assert choose(unsure, floor=0.0) == 0
    assert choose(unsure, floor=0.602) == 1
    assert choose(unsure, floor=0.9) == 1, "where none reaches the floor, the best"
    assert choose(np.array([[0.5], [0.7]]), floor=0.0) == 1


def test_no_choice_is_below_the_index_s_own_fusion(monkeypatch):
    # The own one is surely below the best; the next is worse than both, but so uneven that it might not be.
    best = np.full(40, 0.6)
    uneven = best - 0.02 + np.tile([0.3, -0.3], 20)
    values = iter([best - 0.3, best - 0.3, best - 0.01, uneven, best])
    monkeypatch.setattr("mretrieve.rank.tune._values", lambda *given: next(values))
    own = Fusion("zscore", 0.5)
    tried = [own, Fusion("zscore", 0.45), Fusion("zscore", 0.55)]
    monkeypatch.setattr("mretrieve.rank.tune.candidate_fusions", lambda own: tried)
    assert choose(np.array([best - 0.01, uneven, best]), floor=0.0) == 1
    made, qrels = questions(1, 0.5, 0.5)
    assert learn_weights(made, qrels, own).fusion == "zscore:0.55"


@pytest.fixture(scope="module")
def retriever(tmp_path_factory, model):
    from mretrieve.indexing import build_index

    folder = tmp_path_factory.mktemp("tune")
    texts = [(f"cat{n} on mat{n % 7}", "en") for n in range(35)] + [("alte Bäume im Wald", "de")] * 3
    records = [{"_id": f"d{n}", "text": f"{text}", "lang": lang} for n, (text, lang) in enumerate(texts)]
    build_index(write_jsonl(folder / "corpus.jsonl", records), folder / "index", model=str(model))
    return Retriever(folder / "index")


def test_tune_takes_each_language_with_enough_questions(retriever):
    queries = [Query(f"q{n}", f"cat{n}", "en") for n in range(35)] + [Query("q-de", "Wald", "de")]
    queries += [Query("other", "cat1", "en")]
    qrels = {f"q{n}": {f"d{n}": 1} for n in range(35)} | {"q-de": {"d35": 1}}
    seen = []
    tuning = tune(retriever, queries, qrels, on_progress=lambda *one: seen.append(one))
    assert list(tuning.languages) == ["en"]
    assert tuning.languages["en"].queries == 35 >= LEAST_QUERIES
    assert tuning.measure == "nDCG@10"
    assert seen == [("queries", 35, 36)]
    assert tune(retriever, queries, qrels, measure="rr@10").measure == "RR@10"
    ranked = retriever.rank(queries[:1], mode="hybrid")
    [question] = as_questions(retriever, queries[:1], ranked)
    assert set(question.run(ranked[0].ranking)) == set(retriever.doc_ids(ranked[0].ranking))


def test_languages_are_detected_where_none_is_named(retriever):
    queries = [Query(f"q{n}", f"Where does the old cat number {n} sleep at night?") for n in range(35)]
    tuning = tune(retriever, queries, {f"q{n}": {f"d{n}": 1} for n in range(35)})
    assert list(tuning.languages) == ["en"]


@pytest.mark.parametrize(
    ("qrels", "measure", "sentence"),
    [
        ({"other": {"d1": 1}}, "nDCG@10", "None of the queries is judged"),
        ({"q": {"d1": 1}}, "nDGC", "no measure 'nDGC'"),
    ],
)
def test_wrong_input(retriever, qrels, measure, sentence):
    with pytest.raises(InputError, match=sentence):
        tune(retriever, [Query("q", "cat", "en")], qrels, measure=measure)
