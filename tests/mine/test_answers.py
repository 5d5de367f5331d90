"""Which sentences answer, against choices that can be seen."""

import numpy as np
import pytest

from mretrieve.mine.answers import choose_answers


def unit(*rows):
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_one_passage_has_its_nearest_sentence():
    rows, leads = choose_answers([np.array([0.2, 0.9, 0.6], np.float32)], [unit([1, 0], [0, 1], [1, 1])])
    assert rows.tolist() == [1]
    assert leads[0] == pytest.approx(0.3)


def test_a_single_sentence_leads_without_end():
    rows, leads = choose_answers([np.array([0.1], np.float32)], [unit([1, 0])])
    assert rows.tolist() == [0] and np.isinf(leads[0])


def test_passages_agree_on_what_they_have_in_common():
    """The question alone would take row 0 of the first passage, but only row 1 stands in both."""
    first, second = unit([1, 0, 0], [0, 1, 0]), unit([0, 0, 1], [0, 1, 0])
    asked = [np.array([0.5, 0.4], np.float32), np.array([0.3, 0.5], np.float32)]
    rows, leads = choose_answers(asked, [first, second])
    assert rows.tolist() == [1, 1]
    # With the other's choice given: 0.4 + 1 before 0.5 + 0, and 0.5 + 1 before 0.3 + 0.
    assert leads == pytest.approx([0.9, 1.2])


def test_a_passage_that_has_it_not_leads_by_little():
    common, other = [0, 1, 0], [[1, 0, 0.1], [1, 0, 0]]
    passages = [unit(common, [0, 0, 1]), unit([1, 0, 0], common), unit(*other)]
    asked = [np.array([0.5, 0.4], np.float32), np.array([0.4, 0.5], np.float32), np.full(2, 0.4, np.float32)]
    rows, leads = choose_answers(asked, passages)
    assert rows[:2].tolist() == [0, 1]
    assert leads[2] < 0.02 < leads[:2].min()
