"""Fairness towards languages, against hand arithmetic, scipy and rankings that are fair by construction."""

import json

import numpy as np
import pytest
import scipy.stats

from mretrieve.errors import InputError
from mretrieve.evaluate.fairness import (
    FIRST_HITS,
    PERSISTENCE,
    equal_rank_probability,
    language_fairness,
)


def ranking(languages):
    """A run of one query whose documents are in these languages, and the languages by document."""
    documents = {f"{lang}-{n}": lang for n, lang in enumerate(languages)}
    return {"q": {doc_id: -float(n) for n, doc_id in enumerate(documents)}}, documents


def shares(result):
    return {one.language: one for one in result.languages}


def test_shares_by_hand():
    run, documents = ranking(["en", "en", "sw", "en"])
    result = language_fairness(run, {"q": {"en-0": 1, "sw-2": 2, "en-1": 0}}, documents, depth=4)
    english, swahili = (shares(result)[lang] for lang in ("en", "sw"))
    assert (english.relevant, swahili.relevant) == (0.5, 0.5)
    assert (english.first, swahili.first) == (1.0, 0.0)
    assert (english.first_hits, swahili.first_hits) == (0.75, 0.25)
    weights = PERSISTENCE ** np.arange(4)
    assert swahili.exposure == pytest.approx(weights[2] / weights.sum())
    assert swahili.bias == pytest.approx(swahili.exposure - 0.5) == pytest.approx(-english.bias)
    assert result.language_bias == pytest.approx(abs(swahili.bias))
    assert swahili.curve == pytest.approx((0, 0, 1 / 3, 1 / 4))
    assert swahili.auc == pytest.approx((1 / 3 + 1 / 4) / 4)
    assert (result.queries, result.missing, result.depth, result.own_language) == (1, 0, 4, None)
    assert json.loads(json.dumps(result.to_dict()))["languages"][1]["language"] == "sw"


def test_the_first_ten_are_cut_and_short_rankings_keep_their_last_shares():
    run, documents = ranking(["sw"] + ["en"] * 20)
    result = language_fairness(run, {"q": {"sw-0": 1}}, documents, depth=15)
    assert shares(result)["sw"].first_hits == 1 / FIRST_HITS
    run, documents = ranking(["sw", "en"])
    short = shares(language_fairness(run, {"q": {"sw-0": 1}}, documents, depth=100))["sw"]
    assert short.curve == pytest.approx([1.0] + [0.5] * 99)
    assert short.first_hits == 0.5
    assert short.exposure == pytest.approx(1 / (1 + PERSISTENCE))


def test_queries_count_once_each_and_own_languages_are_told():
    run, documents = ranking(["en", "sw"])
    run["other"] = {"sw-1": 2.0, "en-0": 1.0}
    qrels = {"q": {"en-0": 1}, "other": {"en-0": 1, "sw-1": 1}, "nothing": {"en-0": 0}}
    result = language_fairness(
        run, qrels, documents, query_languages={"q": "sw", "other": "sw", "nothing": "en"}
    )
    assert result.queries == 2
    assert shares(result)["en"].relevant == pytest.approx((1 + 0.5) / 2)
    assert shares(result)["en"].first == 0.5
    assert result.own_language.first == 0.5
    assert result.own_language.relevant == pytest.approx(0.25)
    unknown = language_fairness(run, qrels, documents, query_languages={"q": "th", "other": "th"})
    assert unknown.own_language is None


def test_queries_that_the_run_lacks():
    run, documents = ranking(["en", "sw"])
    result = language_fairness(run, {"q": {"en-0": 1, "sw-1": 1}, "lost": {"en-0": 1, "sw-1": 1}}, documents)
    assert (result.queries, result.missing) == (2, 1)
    # Nothing was found for the lost one, so nothing tells its languages apart.
    alone = language_fairness(run, {"q": {"en-0": 1, "sw-1": 1}}, documents)
    assert result.peer == pytest.approx((alone.peer + 1) / 2)


@pytest.mark.parametrize("seed", range(20))
def test_the_test_is_that_of_kruskal_and_wallis(seed):
    draw = np.random.default_rng(seed)
    groups = [draw.integers(1, 30, size).tolist() for size in draw.integers(1, 12, draw.integers(2, 7))]
    if len(set(sum(groups, []))) == 1:
        groups[0].append(31)
    assert equal_rank_probability(groups) == pytest.approx(scipy.stats.kruskal(*groups).pvalue, abs=1e-12)


def test_documents_that_were_not_found_are_tied_at_the_end():
    found, lost = [1.0, 2.0, 3.0], [4.0, np.inf, np.inf]
    assert equal_rank_probability([found, lost]) == pytest.approx(
        scipy.stats.kruskal(found, [4, 9, 9]).pvalue
    )
    assert equal_rank_probability([[np.inf], [np.inf, np.inf]]) == 1.0
    assert equal_rank_probability([[1.0, 2.0], []]) == 1.0
    assert equal_rank_probability([]) == 1.0


def test_peer_weighs_grades():
    # Highly relevant documents alternate; of the relevant ones all English are first.
    languages = ["en", "sw", "sw", "en", "en", "sw"] + ["en"] * 6 + ["sw"] * 6
    run, documents = ranking(languages)
    qrels = {"q": {doc_id: 2 if n < 6 else 1 for n, doc_id in enumerate(documents)}}
    fair = scipy.stats.kruskal([1, 4, 5], [2, 3, 6]).pvalue
    unfair = scipy.stats.kruskal(range(1, 7), range(7, 13)).pvalue
    assert unfair < 0.01 < 0.5 < fair
    assert language_fairness(run, qrels, documents).peer == pytest.approx((fair + unfair) / 2)
    assert language_fairness(run, qrels, documents, weights={1: 1.0}).peer == pytest.approx(unfair)
    assert language_fairness(run, qrels, documents, weights={1: 1, 2: 3}).peer == pytest.approx(
        (unfair + 3 * fair) / 4
    )
    assert language_fairness(run, qrels, documents, weights={7: 1}).peer == 1.0


def test_peer_looks_no_deeper_than_it_is_told():
    run, documents = ranking(["en", "sw"] * 3 + ["sw"] * 6)
    qrels = {"q": dict.fromkeys(documents, 1)}
    cut = scipy.stats.kruskal([1, 3, 5], [2, 4, 6, *[9] * 6]).pvalue
    assert language_fairness(run, qrels, documents, depth=6).peer == pytest.approx(cut)


def test_fair_rankings_of_random_order_are_told_so():
    # Documents in random order: PEER is one half in the mean, as p-values of a true null are.
    draw = np.random.default_rng(3)
    run, qrels, documents = {}, {}, {f"{lang}{n}": lang for lang in ("de", "sw", "th") for n in range(15)}
    for q in range(400):
        run[f"q{q}"] = dict(zip(documents, draw.permutation(len(documents)).astype(float), strict=True))
        qrels[f"q{q}"] = dict.fromkeys(documents, 1)
    result = language_fairness(run, qrels, documents)
    assert 0.45 < result.peer < 0.55
    assert max(abs(one.bias) for one in result.languages) < 0.03


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"depth": 0}, "The depth is 0"),
        ({"document_languages": {"en-0": "en"}}, "The language of 1 documents is not known, such as 'sw-1'"),
        ({"qrels": {"q": {"en-0": 0}}}, "No query of the qrels has a relevant document"),
        ({"run": {"other": {"en-0": 1.0}}}, "The run ranks nothing for any query"),
        ({"weights": {1: -1.0}}, "The weight of grade 1 is -1.0"),
    ],
)
def test_wrong_input(change, sentence):
    run, documents = ranking(["en", "sw"])
    given = {"run": run, "qrels": {"q": {"en-0": 1}}, "document_languages": documents} | change
    with pytest.raises(InputError, match=sentence):
        language_fairness(**given)
