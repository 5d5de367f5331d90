"""Two runs compared, against values that follow from how the runs were made."""

import numpy as np
import pytest
import scipy.stats

from mretrieve.errors import InputError
from mretrieve.evaluate.compare import ALL_QUERIES, MEAN_OF_LANGUAGES, compare_runs, intervals
from mretrieve.evaluate.measures import evaluate
from mretrieve.evaluate.significance import holm


def runs(n, seed=1, shift=0):
    """Two runs of n queries whose relevant document stands at random ranks, and the reciprocal ranks."""
    draw = np.random.default_rng(seed)
    ranks = draw.integers(1, 9, (2, n))
    ranks[1] = np.maximum(ranks[1] - shift, 1)
    made = [
        {
            f"q{q}": {"right" if p == rank else f"d{p}": -float(p) for p in range(1, 9)}
            for q, rank in enumerate(row)
        }
        for row in ranks
    ]
    return *made, {f"q{n}": {"right": 1} for n in range(n)}, 1 / ranks


def test_values_are_those_of_the_runs_and_p_is_scipys():
    first, second, qrels, (one, other) = runs(10)
    [row] = compare_runs(first, second, qrels, ["RR@10"])
    assert (row.language, row.measure, row.queries) == (ALL_QUERIES, "RR@10", 10)
    assert (row.first, row.second) == pytest.approx((one.mean(), other.mean()))
    assert row.difference == pytest.approx(row.second - row.first)
    assert row.low <= row.difference <= row.high
    assert (row.better, row.worse) == (int((other > one).sum()), int((other < one).sum()))
    theirs = scipy.stats.permutation_test(
        (one, other),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert row.p_value == row.p_holm == pytest.approx(theirs.pvalue)


def test_languages_are_corrected_together_and_means_are_not():
    first, second, qrels, (one, other) = runs(60, shift=1)
    languages = {f"q{n}": ("de", "sw", "th")[n % 3] for n in range(60)}
    rows = {
        row.language: row for row in compare_runs(first, second, qrels, ["RR@10"], query_languages=languages)
    }
    assert list(rows) == ["de", "sw", "th", MEAN_OF_LANGUAGES, ALL_QUERIES]
    assert [rows[lang].p_holm for lang in ("de", "sw", "th")] == holm(
        [rows[lang].p_value for lang in ("de", "sw", "th")]
    )
    assert rows["sw"].difference == pytest.approx((other - one)[1::3].mean())
    assert rows[ALL_QUERIES].p_holm == rows[ALL_QUERIES].p_value
    uneven = {f"q{n}": "de" if n else "sw" for n in range(60)}
    mean = compare_runs(first, second, qrels, ["RR@10"], query_languages=uneven)[2]
    assert mean.second == pytest.approx((other[0] + other[1:].mean()) / 2)
    assert mean.difference == pytest.approx(mean.second - mean.first)


def test_several_measures_and_one_language():
    first, second, qrels, _ = runs(20)
    rows = compare_runs(first, second, qrels, ["RR@10", "P@1"], query_languages=dict.fromkeys(qrels, "de"))
    labels = [(row.measure, row.language) for row in rows]
    assert labels == [(m, lang) for m in ("RR@10", "P@1") for lang in ("de", ALL_QUERIES)]
    assert rows[0].to_dict()["queries"] == 20


def test_queries_that_a_run_lacks_count_as_zero():
    first, second, qrels, (one, _) = runs(5)
    [row] = compare_runs(first, {"q0": second["q0"]}, qrels, ["RR@10"])
    assert row.queries == 5
    assert row.worse >= 4
    assert row.first == pytest.approx(one.mean())


def test_a_query_without_language():
    first, second, qrels, _ = runs(5)
    with pytest.raises(InputError, match="Query 'q4' is judged but has no language"):
        compare_runs(first, second, qrels, query_languages={f"q{n}": "de" for n in range(4)})


def test_intervals_hold_the_means_and_are_those_of_scipy():
    first, _, qrels, (one, _) = runs(200)
    languages = {f"q{n}": "de" if n < 150 else "sw" for n in range(200)}
    found = intervals(evaluate(first, qrels, ["RR@10"]), query_languages=languages)
    assert set(found) == {"de", "sw", MEAN_OF_LANGUAGES, ALL_QUERIES}
    whole = found[ALL_QUERIES]["RR@10"]
    theirs = scipy.stats.bootstrap((one,), np.mean, method="percentile", rng=np.random.default_rng(3))
    assert (whole.low, whole.high) == pytest.approx(theirs.confidence_interval, abs=0.005)
    assert whole.mean == pytest.approx(one.mean())
    mean = found[MEAN_OF_LANGUAGES]["RR@10"]
    assert mean.mean == pytest.approx((one[:150].mean() + one[150:].mean()) / 2)
    assert found["sw"]["RR@10"].high - found["sw"]["RR@10"].low > whole.high - whole.low
    assert set(intervals(evaluate(first, qrels, ["RR@10"]))) == {ALL_QUERIES}


@pytest.mark.slow
def test_equal_systems_are_told_apart_as_often_as_alpha_says():
    # Both runs' ranks are drawn alike, so every finding is false.
    found = 0
    for seed in range(1000):
        first, second, qrels, _ = runs(12, seed=seed)
        found += compare_runs(first, second, qrels, ["RR@10"], n_resamples=200, seed=seed)[0].p_value < 0.05
    assert 30 <= found <= 70
