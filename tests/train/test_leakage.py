"""What is evaluated on stays out of training."""

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.train.leakage import (
    GRAM,
    Evaluated,
    check_training_folder,
    drop_duplicates,
    drop_leaks,
    normalize,
    sampled_grams,
)
from mretrieve.train.pairs import Pair
from tests.train.tiny import words


def pair(anchor, positive, *, language="en", title=""):
    return Pair(anchor, positive, language, language, "made up", "q", "d", "g", title=title)


def test_texts_are_equal_whatever_their_case_and_punctuation():
    assert normalize("  Wer, bitte,\tist ＡＢＣ?") == "wer bitte ist abc"


def test_grams_do_not_depend_on_what_stands_before():
    text = normalize(words("a", 30))
    (alone,), after = sampled_grams([text]), sampled_grams([words("b", 20), "short", text])
    assert len(after[1]) == 0
    assert np.array_equal(alone, after[2])
    # A quarter of all windows, give or take.
    assert 0.1 * (len(text) - GRAM) < len(alone) < 0.45 * (len(text) - GRAM)
    inside = sampled_grams([text[10:]])[0]
    assert set(inside.tolist()) <= set(alone.tolist())


def test_half_of_the_shorter_text_makes_two_texts_nearly_equal():
    text = words("evaluated", 60)
    evaluated = Evaluated()
    evaluated.add_passages("en", [text])
    half, quarter = text[:200] + words("other", 20), text[:70] + words("other", 60)
    assert evaluated.leaks("en", [text, half, quarter, words("new", 60)]) == [
        "equal to an evaluation passage",
        "nearly equal to an evaluation passage",
        "",
        "",
    ]
    assert evaluated.leaks("de", [half]) == [""], "another language shares no text"


def test_a_long_text_that_holds_a_short_one_is_nearly_equal():
    evaluated = Evaluated()
    evaluated.add_passages("en", [words("sentence", 20)])
    around = f"{words('before', 60)} {words('sentence', 20)} {words('after', 60)}"
    assert evaluated.leaks("en", [around]) == ["nearly equal to an evaluation passage"]


def test_leaks_are_dropped_by_reason():
    passage, question = words("p", 30), words("q", 5)
    evaluated = Evaluated(questions={normalize(question)}, titles={"super bowl"})
    evaluated.add_passages("en", [passage])
    good = pair("who", "he")
    pairs = [good, pair("who", passage), pair(question, "he"), pair("what", "it", title="Super Bowl")]
    kept, counts, examples = drop_leaks(pairs, evaluated)
    assert kept == [good]
    assert counts == {
        "equal to an evaluation passage": 1,
        "equal to an evaluation question": 1,
        "of an article that is evaluated on": 1,
    }
    assert examples[0] == "made up q d: equal to an evaluation passage"


def test_equal_pairs_are_kept_once():
    first = pair("Who?", "He did.")
    kept, dropped = drop_duplicates(
        [first, pair("who", "he did"), pair("who", "she did"), pair("same", "Same")]
    )
    assert [one.positive for one in kept] == ["He did.", "she did"]
    assert dropped == 2


def test_tuning_splits_and_evaluation_folders_are_refused(tmp_path):
    check_training_folder(tmp_path, ["train", "train-xling"], [])
    with pytest.raises(InputError, match=r"Split 'dev' of .* is not for training: only train\* may be"):
        check_training_folder(tmp_path, ["train", "dev"], [])
    with pytest.raises(InputError, match=r"is evaluated on, so it must not be trained on"):
        check_training_folder(tmp_path, ["train"], [tmp_path / "." / "x" / ".."])
