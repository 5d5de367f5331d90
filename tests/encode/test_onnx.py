import shutil

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
    model = OnnxBert(folder, int8=True)
    cosine = cosines(exact, model.hidden_states(IDS))
    assert 0.99 < cosine.min() < 1.0 - 1e-6
    assert 0.998 < model.cosine < 1.0 - 1e-6
    assert OnnxBert(folder).cosine == 1.0


def test_int8_weights_are_those_of_the_checkpoint_also_after_it_has_changed(checkpoint):
    folder, other = checkpoint(seed=1), checkpoint(seed=2)
    before = OnnxBert(folder, int8=True).hidden_states(IDS)
    shutil.copyfile(other / "model.safetensors", folder / "model.safetensors")
    after = OnnxBert(folder, int8=True).hidden_states(IDS)
    assert cosines(before, after).mean() < 0.9
    assert cosines(OnnxBert(other).hidden_states(IDS), after).min() > 0.99


def test_one_thread_computes_the_same(checkpoint):
    folder = checkpoint()
    model = OnnxBert(folder, int8=True, n_threads=1)
    one, all_cores = (each.hidden_states(IDS) for each in (model, model.with_threads(0)))
    np.testing.assert_allclose(one, all_cores, atol=1e-5)


@pytest.mark.slow
def test_short_questions_to_the_embedded_model_bear_eight_bits(e5_folder):
    assert OnnxBert(e5_folder, int8=True).cosine > 0.9993


def cosines(one, other):
    """Of rows, (n,)."""
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_two_models_of_one_shape_share_the_graph_but_not_the_weights(checkpoint):
    one, other = OnnxBert(checkpoint(seed=1)), OnnxBert(checkpoint(seed=2))
    assert np.abs(one.hidden_states(IDS) - other.hidden_states(IDS)).max() > 0.1
