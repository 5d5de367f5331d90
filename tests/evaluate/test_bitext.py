"""Bitext retrieval, against sorting and against the definition of the margin."""

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.evaluate import bitext
from mretrieve.evaluate.bitext import NEIGHBOURS, bitext_retrieval


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pairs(n, noise, seed=1):
    draw = np.random.default_rng(seed)
    first = draw.normal(size=(n, 16))
    return unit(first), unit(first + noise * draw.normal(size=(n, 16)))


def plain(first, second):
    """Accuracy and xsim error from the first into the second, by the definitions."""
    cosines = first @ second.T
    right = cosines.argmax(axis=1) == np.arange(len(first))
    near_there = np.sort(cosines, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    near_back = np.sort(cosines.T, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    wrong = 0
    for row in range(len(first)):
        near = np.argsort(-cosines[row])[:NEIGHBOURS]
        margins = [cosines[row, n] / ((near_there[row] + near_back[n]) / 2) for n in near]
        wrong += near[int(np.argmax(margins))] != row
    return right.mean(), wrong / len(first)


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_figures_are_those_of_the_definitions(noise, monkeypatch):
    monkeypatch.setattr(bitext, "_BLOCK_SCORES", 1000)  # several blocks
    first, second = pairs(150, noise)
    found = bitext_retrieval(first, second)
    assert (found.forward, found.xsim_forward) == pytest.approx(plain(first, second))
    assert (found.backward, found.xsim_backward) == pytest.approx(plain(second, first))
    assert found.accuracy == pytest.approx((found.forward + found.backward) / 2)
    assert found.sentences == 150


def test_the_margin_keeps_hubs_from_being_found_by_everyone():
    first, second = pairs(100, 0.6)
    hub = unit(second.mean(axis=0, keepdims=True))
    second = unit(second + 0.0)
    second[0] = hub[0] * 1.0
    crowded = unit(first + 1.5 * hub)
    found = bitext_retrieval(crowded, second)
    assert found.forward < 0.5
    assert 1 - found.xsim_forward > found.forward + 0.2


def test_equal_sentences_are_right_in_each_of_their_rows():
    first, _ = pairs(6, 0.0)
    first[1] = first[0]
    texts = (["same", "same", "c", "d", "e", "f"], ["gleich", "gleich", "c", "d", "e", "f"])
    assert bitext_retrieval(first, first).forward == pytest.approx(5 / 6)
    found = bitext_retrieval(first, first, texts=texts)
    assert (found.accuracy, found.xsim) == (1.0, 0.0)
    assert found.to_dict()["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("first", "second", "texts", "sentence"),
    [
        (np.ones((3, 2), np.float32), np.ones((2, 2), np.float32), None, r"one shape.*\(3, 2\) and \(2, 2\)"),
        (np.ones((1, 2), np.float32), np.ones((1, 2), np.float32), None, "At least two pairs"),
        (np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), (["a"], ["b"]), "1 texts for 3 vectors"),
    ],
)
def test_wrong_input(first, second, texts, sentence):
    with pytest.raises(InputError, match=sentence):
        bitext_retrieval(first, second, texts=texts)
