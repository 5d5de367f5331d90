import numpy as np
import torch

from mretrieve.encode.packed_nomic import PackedNomic
from mretrieve.models.nomic_files import load_nomic_moe
from tests.models.nomic import official_folder


def test_states_are_those_of_the_model_text_after_text(tmp_path):
    folder = official_folder(tmp_path / "official")
    texts = [np.array(ids, np.int32) for ids in ([0, 5, 6, 7, 2], [0, 9, 2], [0, 8, 2])]
    found = PackedNomic(folder).hidden_states(texts)
    model = load_nomic_moe(folder)
    with torch.inference_mode():
        alone = [
            model(torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0].numpy() for ids in texts
        ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.concatenate(alone), atol=1e-5)
