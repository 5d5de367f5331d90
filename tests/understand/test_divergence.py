import numpy as np
import pytest

from mretrieve.understand.divergence import (
    distances,
    entropy,
    js_divergence,
    language_tree,
    newick,
    normalized_js_divergence,
    routing_divergence,
)

ONE, OTHER, EVEN = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.5, 0.5])


def test_entropy_in_bits():
    assert entropy(np.array([ONE, EVEN])).tolist() == [0.0, 1.0]
    assert entropy(np.full(8, 1 / 8)) == pytest.approx(3.0)


def test_js_divergence_by_hand():
    assert js_divergence(ONE, OTHER) == 1.0
    assert js_divergence(EVEN, EVEN) == 0.0
    # The mean is (3/4, 1/4) with 2 - 3/4 log2 3 bits; the entropies are 0 and 1.
    assert js_divergence(ONE, EVEN) == pytest.approx(2 - 0.75 * np.log2(3) - 0.5)


def test_normalised_divergence_by_hand():
    # Room: log2 2 - (0 + 1) / 2.
    assert normalized_js_divergence(ONE, EVEN) == pytest.approx((1.5 - 0.75 * np.log2(3)) / 0.5)
    assert normalized_js_divergence(ONE, OTHER) == 1.0
    assert normalized_js_divergence(EVEN, EVEN) == 0.0


def test_divergence_is_the_mean_over_sentences_that_have_tokens():
    english = np.stack([ONE, ONE, ONE])[:, None]
    means = np.stack([ONE, OTHER, np.full(2, np.nan)])[:, None]
    bits, normalized = routing_divergence(means, english)
    assert bits.tolist() == [0.5]
    assert normalized.tolist() == [0.5]


def test_distances_are_means_over_layers():
    profiles = np.array([[ONE, ONE], [ONE, OTHER], [OTHER, OTHER]])
    assert distances(profiles).tolist() == [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]


def test_the_tree_joins_the_nearest_first():
    matrix = np.array([[0.0, 0.9, 0.2], [0.9, 0.0, 0.7], [0.2, 0.7, 0.0]])
    text = newick(language_tree(matrix), ["de", "sw", "nl"])
    # de and nl join at 0.2; sw is 0.8 from them on average.
    assert text in ("(sw:0.4,(de:0.1,nl:0.1):0.3);", "(sw:0.4,(nl:0.1,de:0.1):0.3);")


def test_labels_that_newick_would_misread_are_quoted():
    assert newick(np.array([[0, 1, 0.5, 2]]), ["a b", "it's"]) == "('a b':0.25,'it''s':0.25);"
