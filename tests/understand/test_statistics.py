import math
import shutil

import numpy as np
import pytest

from mretrieve.models.nomic_files import load_nomic_moe
from mretrieve.understand.running import TextModel
from mretrieve.understand.statistics import routing_statistics
from tests.models.nomic import reference
from tests.understand.data import ROWS

TEXTS = [row["deu"] for row in ROWS]


@pytest.fixture(scope="module")
def expected(sparse):
    """The routing of each text's own tokens, and of the others, by the independent reference."""
    runner, model = TextModel(sparse), load_nomic_moe(sparse)
    texts, others = [], []
    for ids in runner.ids(TEXTS):
        # <s>, the prompt's two pieces, the text, </s>
        _, probabilities, choices = reference(model, ids.tolist())
        layers = list(zip(probabilities, choices, strict=True))
        texts.append([list(zip(p, c, strict=True))[3:-1] for p, c in layers])
        others.append([[*c[:3], c[-1]] for _, c in layers])
    return texts, others


def test_counts_are_those_of_the_reference(sparse, expected):
    texts, others = expected
    found = routing_statistics(TextModel(sparse), TEXTS, lang="de")
    slots, firsts, special = np.zeros((2, 4)), np.zeros((2, 4)), np.zeros((2, 4))
    confidences, entropies = np.zeros((2, 4)), np.zeros(2)
    for text, other in zip(texts, others, strict=True):
        for layer in range(2):
            for p, chosen in text[layer]:
                firsts[layer, chosen[0]] += 1
                confidences[layer, chosen[0]] += p[chosen[0]]
                entropies[layer] -= sum(one * math.log2(one) for one in p)
                for expert in chosen:
                    slots[layer, expert] += 1
            for chosen in other[layer]:
                special[layer, list(chosen)] += 1
    assert found.n_tokens == sum(len(text[0]) for text in texts)
    assert found.slots.tolist() == slots.tolist()
    assert found.firsts.tolist() == firsts.tolist()
    assert found.special_slots.tolist() == special.tolist()
    assert found.confidences == pytest.approx(confidences, abs=1e-4)
    assert found.entropies == pytest.approx(entropies, abs=1e-3)


def test_means_are_in_the_order_of_the_texts(sparse, expected):
    texts, _ = expected
    found = routing_statistics(TextModel(sparse), TEXTS, lang="de", keep_logits=True)
    for row, text in enumerate(texts):
        for layer in range(2):
            mean = np.mean([p for p, _ in text[layer]], axis=0)
            assert found.means[row, layer] == pytest.approx(mean, abs=1e-5)
    assert sum(map(len, found.logits[1])) == found.n_tokens


def test_a_text_without_tokens_has_no_mean(sparse, tmp_path):
    folder = shutil.copytree(sparse, tmp_path / "model")
    (folder / "config_sentence_transformers.json").unlink()  # and with it the prompt
    found = routing_statistics(TextModel(folder), ["", "king"], lang="en")
    assert np.isnan(found.means[0]).all()
    assert not np.isnan(found.means[1]).any()


def test_progress_counts_texts(sparse):
    seen = []
    routing_statistics(TextModel(sparse), TEXTS, lang="de", on_texts=seen.append)
    assert sum(seen) == len(TEXTS)
