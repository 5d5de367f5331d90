import numpy as np
import pytest

from mretrieve.encode.onnx import OnnxBert
from mretrieve.encode.pooling import pool
from tests.encode.reference import embed

IDS = [np.array([0, *range(4, 4 + n), 2], np.int32) for n in (7, 1, 20, 3)]


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_it_equals_transformers(checkpoint, kind):
    folder = checkpoint(kind=kind)
    found = pool(OnnxBert(folder).hidden_states(IDS), [len(ids) for ids in IDS], mode="mean")
    np.testing.assert_allclose(found, embed(folder, IDS), atol=2e-5)


def test_padding_changes_nothing(checkpoint):
    model = OnnxBert(checkpoint())
    together = model.hidden_states(IDS)
    alone = np.concatenate([model.hidden_states([ids]) for ids in IDS])
    np.testing.assert_allclose(together, alone, atol=2e-5)


def test_int8_is_close_and_not_equal(checkpoint):
    folder = checkpoint()
    exact = OnnxBert(folder).hidden_states(IDS)
    rounded = OnnxBert(folder, int8=True).hidden_states(IDS)
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert 0.98 < cosine.min() < 1.0 - 1e-6


def test_two_models_of_one_shape_share_the_graph_but_not_the_weights(checkpoint):
    one, other = OnnxBert(checkpoint(seed=1)), OnnxBert(checkpoint(seed=2))
    assert np.abs(one.hidden_states(IDS) - other.hidden_states(IDS)).max() > 0.1
