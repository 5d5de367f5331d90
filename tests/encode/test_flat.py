import logging

import numpy as np
import pytest
import torch

from mretrieve.encode import flat
from mretrieve.encode.encoder import pool
from mretrieve.encode.flat import FlatBert
from tests.encode.reference import embed

IDS = [np.array([0, *range(4, 4 + n), 2], np.int32) for n in (20, 7, 7, 7, 3, 1)]


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_it_equals_transformers(checkpoint, kind, pooling):
    folder = checkpoint(kind=kind)
    found = pool(FlatBert(folder).hidden_states(IDS), [len(ids) for ids in IDS], mode=pooling)
    np.testing.assert_allclose(found, embed(folder, IDS, pooling=pooling), atol=2e-5)


def test_texts_do_not_see_each_other(checkpoint):
    model = FlatBert(checkpoint())
    alone = np.concatenate([model.hidden_states([ids]) for ids in IDS])
    np.testing.assert_allclose(model.hidden_states(IDS), alone, atol=2e-5)


def test_bfloat16_is_close_to_float32(checkpoint):
    folder = checkpoint()
    exact = FlatBert(folder).hidden_states(IDS)
    rounded = FlatBert(folder, dtype=torch.bfloat16).hidden_states(IDS)
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert rounded.dtype == np.float32
    assert cosine.min() > 0.999


def test_without_packed_layers_it_says_so_and_stays_right(checkpoint, monkeypatch, caplog):
    folder = checkpoint()
    expected = FlatBert(folder).hidden_states(IDS)

    def refuse(*_, **__):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(flat, "_pack", refuse)
    with caplog.at_level(logging.WARNING):
        found = FlatBert(folder).hidden_states(IDS)
    assert "no such kernel" in caplog.text
    np.testing.assert_allclose(found, expected, atol=2e-5)
