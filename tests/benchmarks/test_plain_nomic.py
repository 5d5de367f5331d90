"""The straightforward implementation that we compare with computes the same as our model."""

import numpy as np
import pytest
import torch
from plain_nomic import BATCH, PlainNomic

from mretrieve.encode.pooling import pool
from mretrieve.models.config_file import read_nomic_config
from mretrieve.models.nomic_files import load_nomic_moe
from tests.models.nomic import official_folder


@pytest.mark.parametrize("n_texts", [3, BATCH + 5])
def test_it_is_the_model(tmp_path, n_texts):
    folder = official_folder(tmp_path / "model")
    rng = np.random.default_rng(2)
    texts = [rng.integers(4, 48, length).astype(np.int32) for length in rng.integers(1, 40, n_texts)]
    lengths = [len(text) for text in texts]
    with torch.inference_mode():
        ids = torch.from_numpy(np.concatenate(texts)).long()
        hidden = load_nomic_moe(folder).forward_packed(ids, lengths).last_hidden_state.numpy()
    wanted = pool(hidden, lengths, mode="mean")
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = PlainNomic(folder, read_nomic_config(folder)).embed(texts)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
