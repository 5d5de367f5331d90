from collections import Counter

import pytest

from mretrieve.errors import InputError
from mretrieve.mine.sample import sample_negatives
from tests.mine.conftest import candidate, pair

FOUND = [
    *(candidate(f"en{n}", "en", score=0.5 - n / 100, rank=n + 1) for n in range(10)),
    *(candidate(f"de{n}", "de", score=0.4 - n / 100, rank=n + 1) for n in range(3)),
    *(candidate(f"sw{n}", "sw", score=0.3 - n / 100, rank=n + 1) for n in range(3)),
]


def chosen(pairs=None, **options):
    triples = sample_negatives(pairs or [pair(found=FOUND[::-1])], **options)
    return [[c.document.doc_id for c in triple.negatives] for triple in triples]


def test_the_best_scored_are_taken():
    assert chosen(per_query=3) == [["en0", "en1", "en2"]]


def test_without_scores_the_first_ranks_are_taken():
    found = [candidate("b", rank=2), candidate("c", rank=3), candidate("a", rank=1)]
    assert chosen([pair(found=found)], per_query=2) == [["a", "b"]]


def test_any_are_taken_the_same_ones_each_time():
    [first] = chosen(per_query=4, strategy="random")
    assert chosen(per_query=4, strategy="random") == [first]
    assert chosen(per_query=4, strategy="random", seed=2) != [first]
    assert first == sorted(first)  # best score first
    assert first != ["en0", "en1", "en2", "en3"]


def test_the_best_and_any_others():
    draws = [chosen(per_query=3, strategy="top1+random", seed=seed)[0] for seed in range(20)]
    assert all(draw[0] == "en0" for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 10


def test_the_choice_hangs_on_the_query_alone():
    pairs = [pair(positive=candidate(name), found=FOUND) for name in "xyz"]
    together = chosen(pairs, per_query=3, strategy="random")
    assert together == [chosen([one], per_query=3, strategy="random")[0] for one in pairs]
    assert len({tuple(one) for one in together}) == 3


def test_a_share_comes_from_other_languages_in_turn():
    [negatives] = chosen(per_query=8, other_languages=0.5)
    assert Counter(name[:2] for name in negatives) == {"en": 4, "de": 2, "sw": 2}
    assert {"de0", "de1", "sw0", "sw1"} <= set(negatives)


def test_one_side_fills_up_for_the_other():
    assert len(chosen(per_query=20, other_languages=0.0)[0]) == 16
    assert Counter(name[:2] for name in chosen(per_query=10, other_languages=1.0)[0])["en"] == 4
    assert Counter(name[:2] for name in chosen(per_query=12, other_languages=0.0)[0])["en"] == 10


def test_nothing_left():
    assert chosen([pair(found=[]), pair(found=FOUND[:1])]) == [["en0"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_query": 0}, "per_query is 0"),
        ({"strategy": "best"}, "Unknown strategy 'best'. Choose from: top, random"),
        ({"other_languages": 1.1}, "other_languages is 1.1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        chosen(**options)
