"""Batches: who shares one, and that the seed alone decides."""

from collections import Counter
from itertools import islice

import pytest

from mretrieve.errors import InputError
from mretrieve.train.batches import Batches, Batching, Examples, Mix, schedule


def examples(counts, *, groups=None):
    """Examples by pair of languages, each with a group and an anchor of its own."""
    languages = [pair for pair, n in counts.items() for _ in range(n)]
    n = len(languages)
    return Examples(
        languages=languages,
        sources=["s"] * n,
        groups=groups or [f"g{i}" for i in range(n)],
        anchors=[f"a{i}" for i in range(n)],
        positives=[f"p{i}" for i in range(n)],
        lengths=[i % 50 for i in range(n)],
    )


def make(data, *, size=8, seed=1, total=100, mix=None, **batching):
    return Batches(data, size=size, batching=Batching(**batching), mix=mix or Mix(), seed=seed, total=total)


def take(batches, n):
    return list(islice(batches, n))


CROSS = {(a, b): 30 for a in "abcde" for b in "abcde"}


def test_the_seed_alone_decides():
    data = examples(CROSS)
    assert take(make(data), 20) == take(make(data), 20)
    assert take(make(data), 20) != take(make(data, seed=2), 20)


def test_in_a_balanced_batch_every_positive_has_distractors_in_both_languages():
    data = examples(CROSS)
    for batch in take(make(data, size=12, languages="balanced", per_batch=3), 50):
        positives = Counter(data.languages[row][1] for row in batch)
        assert list(positives.values()) == [4, 4, 4]
        assert {data.languages[row][0] for row in batch} <= positives.keys()


def test_a_batch_of_the_same_languages():
    data = examples({("a", "a"): 40, ("b", "b"): 40, ("c", "c"): 3})
    found = [{data.languages[row] for row in batch} for batch in take(make(data, languages="same"), 40)]
    assert all(len(languages) == 1 for languages in found)
    assert {pair for languages in found for pair in languages} == {("a", "a"), ("b", "b")}, "c is too small"


def parallel(n_groups, languages="abcd"):
    """Groups of a question in some languages, each with its answer in each."""
    pairs = [(a, b, group) for group in range(n_groups) for a in languages for b in languages]
    return Examples(
        languages=[(a, b) for a, b, _ in pairs],
        sources=["s"] * len(pairs),
        groups=[f"g{group}" for *_, group in pairs],
        anchors=[f"q{group} {a}" for a, _, group in pairs],
        positives=[f"p{group} {b}" for _, b, group in pairs],
        lengths=[1] * len(pairs),
    )


def test_a_batch_of_whole_groups():
    data = parallel(30)
    for batch in take(make(data, size=12, languages="parallel", per_batch=4), 40):
        assert len(set(batch)) == 12
        assert len({data.anchors[row] for row in batch}) == 12
        groups = Counter(data.groups[row] for row in batch)
        assert list(groups.values()) == [4, 4, 4], "all languages of a group that is drawn"
        assert len({data.positives[row] for row in batch}) >= 9, "different answers as far as it goes"
    assert take(make(data, size=12, languages="parallel"), 9) == take(
        make(data, size=12, languages="parallel"), 9
    )


def test_what_the_mix_leaves_out_is_in_no_group():
    data, mix = parallel(30), Mix(weights={"d": 0.0}, first=["a", "b"], first_share=0.5)
    batches = take(make(data, size=4, languages="parallel", per_batch=4, mix=mix, total=20), 20)
    languages = [{language for row in batch for language in data.languages[row]} for batch in batches]
    assert all(one == {"a", "b"} for one in languages[:10])
    assert {pair[1] for batch in batches[10:] for pair in (data.languages[row] for row in batch)} == set(
        "abc"
    )


def test_groups_that_are_too_few_are_told():
    with pytest.raises(InputError, match=r"16 examples cannot be made of 2 groups"):
        take(make(parallel(2), size=16, languages="parallel", per_batch=6), 1)


def test_no_two_right_answers_share_a_batch_while_there_are_others():
    data = examples({("a", "a"): 60}, groups=[f"g{i // 3}" for i in range(60)])
    for batch in take(make(data, languages="random"), 20):
        assert len({data.groups[row] for row in batch}) == len(batch) == 8


def test_all_examples_come_before_one_comes_again():
    data = examples({("a", "a"): 64})
    rows = [row for batch in take(make(data, languages="random"), 8) for row in batch]
    assert sorted(rows) == list(range(64))


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.9), (0.0, 0.5), (0.5, 0.75)])
def test_the_temperature_weighs_languages(temperature, share):
    # 900 and 100 examples: 30 to 10 at a half.
    data = examples({("a", "a"): 900, ("b", "b"): 100})
    batches = make(data, languages="random", mix=Mix(temperature=temperature))
    rows = [data.languages[row][0] for batch in take(batches, 500) for row in batch]
    assert rows.count("a") / len(rows) == pytest.approx(share, abs=0.03)


def test_weights_and_phases():
    data = examples({("a", "a"): 100, ("b", "b"): 100})
    mix = Mix(temperature=0, weights={"b": 3}, first=["a"], first_share=0.5)
    batches = take(make(data, languages="random", mix=mix, total=200), 200)
    early, late = (
        [data.languages[row][0] for batch in part for row in batch] for part in (batches[:100], batches[100:])
    )
    assert set(early) == {"a"}
    assert late.count("b") / len(late) == pytest.approx(0.75, abs=0.05)


def test_buckets_put_similar_lengths_together():
    data = examples({("a", "a"): 500})
    for batch in take(make(data, languages="random", length_buckets=5), 50):
        lengths = [data.lengths[row] for row in batch]
        assert max(lengths) - min(lengths) <= 10


def test_what_cannot_fill_a_batch_is_told():
    with pytest.raises(InputError, match=r"A batch of 8 examples cannot be made of 5"):
        make(examples({("a", "a"): 5}))
    with pytest.raises(InputError, match=r"leaves no examples of the languages z"):
        make(examples({("a", "a"): 50}), mix=Mix(first=["z"], first_share=0.5))


def test_the_schedule_has_every_data_set_in_every_step_and_process():
    batches = {"x": make(examples({("a", "a"): 50})), "y": make(examples({("b", "b"): 50}))}
    order = [name for name, _ in schedule({"x": 2, "y": 1}, batches, steps=2, processes=2)]
    assert order == ["x", "x", "x", "x", "y", "y"] * 2
