import random

import numpy as np
import pytest

from mretrieve.datasets.minhash import PERMUTATIONS, RECALL, Signatures, rows_per_band, signer

WORDS = "river mountain harbour engine winter market bridge valley copper lantern".split()


def jaccard(first, second):
    """Of the sets of runs of five letters, written down a second time."""
    sets = []
    for text in (first, second):
        letters = "".join(one for one in text.casefold() if one.isalnum())
        sets.append({letters[i : i + 5] for i in range(len(letters) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def sentence(rng, n_words=60):
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(1000)}" for _ in range(n_words))


def test_the_share_of_equal_numbers_is_the_jaccard_similarity():
    rng, sign = random.Random(1), signer()
    for changed in (0, 6, 15, 30, 60):
        first = sentence(rng).split()
        second = [*first[: 60 - changed], *sentence(rng, 60).split()[60 - changed :]]
        one, other = " ".join(first), " ".join(second)
        estimate = np.mean(sign(one) == sign(other))
        # Four standard errors of a share of 128 independent trials.
        truth = jaccard(one, other)
        assert estimate == pytest.approx(truth, abs=4 * (truth * (1 - truth) / PERMUTATIONS) ** 0.5 + 1e-9)


def test_signatures_are_the_same_on_every_machine():
    assert signer()("The cat sat on the mat.")[:3].tolist() == signer()("the CAT sat on the mat")[:3].tolist()
    assert signer()("a").dtype == np.uint32


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_let_few_pairs_escape(threshold):
    rows = rows_per_band(threshold)
    assert 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL
    assert rows >= rows_per_band(0.5)


def marked(folder, texts, *, threshold=0.8, keys=None):
    sign, signatures = signer(), Signatures(folder, threshold=threshold)
    signatures.add([sign(text) for text in texts], keys or [1] * len(texts))
    origin = np.full(len(texts), -1, np.int64)
    signatures.mark(origin)
    return origin.tolist(), signatures


def test_a_near_copy_goes_and_names_an_earlier_text(tmp_path):
    rng = random.Random(2)
    first, other = sentence(rng), sentence(rng)
    origin, _ = marked(tmp_path, [other, first, first + " end", other[::-1], first.upper()])
    assert origin == [-1, -1, 1, -1, 1]


def test_texts_of_different_keys_are_never_compared(tmp_path):
    assert marked(tmp_path, ["the same text"] * 3, keys=[1, 2, 1])[0] == [-1, -1, 0]


def test_nothing_goes_without_a_text_like_it_that_stays(tmp_path):
    """A chain of texts, each like the next but not like the one after that."""
    rng = random.Random(3)
    words = sentence(rng, 100).split()
    texts = [" ".join(words[start : start + 60]) for start in range(0, 40, 4)]
    origin, signatures = marked(tmp_path, texts)
    assert 0 < sum(one >= 0 for one in origin) < len(texts) - 1
    for row, one in enumerate(origin):
        if one >= 0:
            assert one < row and origin[one] == -1
            assert signatures.similarity(np.array([one]), np.array([row]))[0] >= 0.8
    kept = [row for row, one in enumerate(origin) if one < 0]
    pairs = [(a, b) for a in kept for b in kept if a < b]
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    assert (signatures.similarity(first, second) < 0.8).all()


def test_finds_planted_copies_among_many(tmp_path):
    rng = random.Random(4)
    originals = [sentence(rng, 40) for _ in range(300)]
    copies = []
    for text in originals[:100]:
        words = text.split()
        words[rng.randrange(40)] = "changed"
        copies.append(" ".join(words))
    origin, _ = marked(tmp_path, originals + copies)
    assert origin[:300] == [-1] * 300
    assert sum(one == row for row, one in enumerate(origin[300:])) >= 95
