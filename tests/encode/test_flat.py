import logging

import numpy as np
import pytest
import torch

from mretrieve.encode.flat import FlatBert
from mretrieve.encode.pooling import pool
from mretrieve.errors import InputError
from mretrieve.models import packed
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


@pytest.mark.slow
def test_bfloat16_keeps_the_embedded_models_vectors(e5_folder):
    rng = np.random.default_rng(1)
    ids = [np.array([0, *rng.integers(4, 250000, n), 2], np.int32) for n in (200, 199, 120, 60, 60, 31, 8, 3)]
    lengths = [len(one) for one in ids]
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        vectors = pool(FlatBert(e5_folder, dtype=dtype).hidden_states(ids), lengths, mode="mean")
        found[dtype] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (found[torch.float32] * found[torch.bfloat16]).sum(1).min() > 0.9999


def test_without_packed_layers_it_says_so_and_stays_right(checkpoint, monkeypatch, caplog):
    folder = checkpoint()
    expected = FlatBert(folder).hidden_states(IDS)

    def refuse(*_, **__):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(packed, "_pack", refuse)
    with caplog.at_level(logging.WARNING):
        found = FlatBert(folder).hidden_states(IDS)
    assert "no such kernel" in caplog.text
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(("kind", "most"), [("bert", 40), ("xlm-roberta", 38)])
def test_too_long_texts_are_refused(checkpoint, kind, most):
    model = FlatBert(checkpoint(kind=kind))
    assert len(model.hidden_states([np.full(most, 5, np.int32)])) == most
    with pytest.raises(InputError, match=f"A text of {most + 1} tokens is longer than the {most} that"):
        model.hidden_states([np.full(most + 1, 5, np.int32)])
