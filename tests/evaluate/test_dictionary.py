"""Dictionaries learned from sentences that were made of known words, and read from lines."""

import random

import pytest

from mretrieve.errors import InputError
from mretrieve.evaluate.dictionary import LEAST_ROWS, learn_dictionary, parse_dictionary

WORDS = {
    "hund": "dog",
    "katze": "cat",
    "fluss": "river",
    "berg": "mountain",
    "brot": "bread",
    "milch": "milk",
}


def sentences(n, seed=1):
    draw = random.Random(seed)
    chosen = [draw.sample(sorted(WORDS), 3) for _ in range(n)]
    return [" ".join(words) for words in chosen], [
        " ".join(WORDS[word] for word in words) for words in chosen
    ]


def test_words_are_found_again():
    german, english = sentences(60)
    assert learn_dictionary(german, english) == WORDS


def test_runs_of_characters_stand_for_words_where_there_are_no_spaces():
    draw = random.Random(2)
    chinese = {"首都": "capital", "河流": "river", "历史": "history", "音乐": "music"}
    chosen = [draw.sample(sorted(chinese), 2) for _ in range(60)]
    found = learn_dictionary(
        ["的".join(c) for c in chosen], [" ".join(chinese[w] for w in c) for c in chosen]
    )
    assert {word: found[word] for word in chinese} == chinese


def test_rare_words_and_words_that_are_the_same_are_left_out():
    german, english = sentences(60)
    german += ["selten"] * (LEAST_ROWS - 1) + ["paris"] * 5
    english += ["rare"] * (LEAST_ROWS - 1) + ["paris"] * 5
    assert learn_dictionary(german, english) == WORDS


def test_sides_of_different_length():
    with pytest.raises(InputError, match="2 sentences, but 1 translations"):
        learn_dictionary(["a", "b"], ["a"])


def test_lines_of_a_dictionary():
    lines = {1: "# German, English", 2: "Hund\tdog", 3: "", 4: "hund\thound", 5: "首都\tcapital city"}
    assert parse_dictionary(lines, "words.tsv") == {"hund": "dog", "首都": "capital city"}


@pytest.mark.parametrize("lines", [{7: "one two"}, {7: "one\t"}, {7: "a\tb\tc"}])
def test_broken_lines_are_named(lines):
    with pytest.raises(InputError, match=r"words\.tsv:7: a line of a dictionary is"):
        parse_dictionary(lines, "words.tsv")


def test_no_words():
    with pytest.raises(InputError, match=r"words\.tsv holds no words"):
        parse_dictionary({1: "# nothing"}, "words.tsv")
