"""Tests of significance, against scipy's own and against systems that are equal by construction."""

import numpy as np
import pytest
import scipy.stats

from mretrieve.evaluate.significance import bootstrap_interval, compare, holm, randomisation_test


def draw(n, *, shift=0.0, seed=1):
    """Differences of two systems on n questions, skewed as those of real ones are, of mean `shift`."""
    random = np.random.default_rng(seed)
    return random.exponential(0.1, n) * random.choice([-1, 1], n) + shift


def scipy_p(differences, n_resamples=np.inf):
    return scipy.stats.permutation_test(
        (differences, np.zeros(len(differences))),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_resamples,
        rng=np.random.default_rng(5),
    ).pvalue


def test_three_questions_by_hand():
    # Of the eight ways to swap, only none and all give a mean of 0.2 either way.
    assert randomisation_test([0.1, 0.2, 0.3]) == 2 / 8
    # The sums are +-0.5, +-0.3 twice, and +-0.1: a sum of 0.3 is reached by six of eight.
    assert randomisation_test([0.1, 0.3, -0.1]) == 6 / 8


@pytest.mark.parametrize("seed", range(5))
def test_few_questions_are_exact_as_scipys(seed):
    differences = draw(12, shift=0.05, seed=seed)
    assert randomisation_test(differences) == pytest.approx(scipy_p(differences), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_many_questions_agree_with_scipy(seed):
    differences = draw(300, shift=0.012, seed=seed)
    ours = randomisation_test(differences, n_resamples=20_000)
    theirs = scipy_p(differences, n_resamples=20_000)
    assert ours == pytest.approx(theirs, abs=4 * np.sqrt(2 * theirs * (1 - theirs) / 20_000))


def test_questions_without_a_difference_change_nothing():
    differences = draw(11, shift=0.05)
    assert randomisation_test([*differences, *[0.0] * 1000]) == randomisation_test(differences)
    assert randomisation_test([0.0] * 10) == 1.0


def test_the_least_p_of_random_draws_is_the_outcome_itself():
    assert randomisation_test([1.0] * 100, n_resamples=999) == 1 / 1000


def test_equal_systems_are_told_apart_as_often_as_alpha_says():
    found = sum(randomisation_test(draw(40, seed=seed), n_resamples=500) < 0.05 for seed in range(1000))
    assert 30 <= found <= 70


def test_equal_systems_with_translated_questions():
    # 25 questions in 8 languages whose differences go together: single questions would find far too much.
    clusters = np.repeat(np.arange(25), 8)
    clustered, single = 0, 0
    for seed in range(1000):
        differences = np.repeat(draw(25, seed=seed), 8) + 0.1 * draw(200, seed=seed + 1000)
        clustered += randomisation_test(differences, clusters=clusters, n_resamples=300) < 0.05
        if seed < 100:
            single += randomisation_test(differences, n_resamples=300) < 0.05
    assert 30 <= clustered <= 70
    assert single > 20  # of 100


def test_a_real_difference_is_found():
    found = sum(randomisation_test(draw(200, shift=0.04, seed=s), n_resamples=500) < 0.05 for s in range(50))
    assert found >= 45


def test_intervals_are_scipys():
    differences = draw(200, shift=0.02)
    theirs = scipy.stats.bootstrap(
        (differences,), np.mean, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert bootstrap_interval(differences) == pytest.approx(theirs, abs=0.001)


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = 0
    for seed in range(400):
        low, high = bootstrap_interval(draw(60, shift=0.03, seed=seed), confidence=0.9, n_resamples=400)
        held += low <= 0.03 <= high
    assert 0.85 <= held / 400 <= 0.95


def test_clusters_are_drawn_whole():
    # The same differences eight times over are no more evidence than once.
    differences = draw(50)
    once = bootstrap_interval(differences)
    again = bootstrap_interval(np.repeat(differences, 8), clusters=np.repeat(np.arange(50), 8))
    assert again == pytest.approx(once)
    alone = bootstrap_interval(np.repeat(differences, 8))
    assert alone[1] - alone[0] < 0.5 * (once[1] - once[0])


def test_groups_count_once_whatever_their_size():
    first, second = np.zeros(6), np.array([0.3, 0.3, 0.3, 0.3, 0.3, 0.1])
    result = compare(first, second, groups=["en"] * 5 + ["sw"])
    assert result.difference == pytest.approx((0.3 + 0.1) / 2)
    assert compare(first, second).difference == pytest.approx(1.6 / 6)
    assert result.low <= result.difference <= result.high
    # All ways to swap: only all six one way or the other give as much.
    assert result.p_value == 2 / 64


def test_a_draw_without_a_small_group_is_the_mean_of_the_others():
    groups = ["a"] * 30 + ["b"]
    low, high = bootstrap_interval([0.2] * 30 + [0.4], groups=groups)
    assert (low, high) == pytest.approx((0.2, 0.3))


def test_a_comparison_is_the_same_each_time_and_turns_with_its_sides():
    one, other = draw(80, seed=3), draw(80, seed=4)
    assert compare(one, other) == compare(one, other)
    there, back = compare(one, other), compare(other, one)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p_value == back.p_value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.002)


def test_twenty_thousand_questions_stay_within_memory():
    differences = draw(20_000, shift=0.001)
    result = compare(np.zeros(20_000), differences, n_resamples=1000)
    assert result.low < result.difference < result.high


def test_holm_by_hand():
    # Sorted 0.01 0.02 0.03 0.04, times 4 3 2 1: 0.04 0.06 0.06 0.04, and none below the one before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_false_findings_rare():
    random = np.random.default_rng(1)
    found = sum(min(holm(list(random.uniform(size=10)))) < 0.05 for _ in range(2000))
    assert 0.035 <= found / 2000 <= 0.065


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare([0.1], [0.1, 0.2]), "there are 1 and 2"),
        (lambda: compare([], []), "not empty"),
        (lambda: randomisation_test([0.1, float("nan")]), "not a finite number"),
        (lambda: randomisation_test([[0.1]]), "one a question"),
        (lambda: randomisation_test([0.1, 0.2], groups=["a"]), "groups must name one for each of 2"),
        (lambda: bootstrap_interval([0.1, 0.2], clusters=["a"]), "clusters must name one for each of 2"),
        (lambda: bootstrap_interval([0.1], confidence=1.0), "between 0 and 1, got 1.0"),
        (lambda: randomisation_test([0.1], n_resamples=0), "at least 1, got 0"),
        (lambda: holm([0.5, 1.5]), "got 1.5"),
    ],
)
def test_what_cannot_be_tested_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
