import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from mretrieve.errors import InputError
from mretrieve.models.weights import read_weights, weight_files


def test_tensors_come_back_as_they_were(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5], np.float16)}
    save_file(tensors, tmp_path / "model.safetensors")
    found = read_weights(tmp_path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_bfloat16_is_widened(tmp_path):
    import torch
    from safetensors.torch import save_file as save_torch

    save_torch({"x": torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    expected = torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(read_weights(tmp_path)["x"], expected)


def test_shards_are_joined(tmp_path):
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "model-1.safetensors")
    save_file({"b": np.zeros(2, np.float32)}, tmp_path / "model-2.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert sorted(read_weights(tmp_path)) == ["a", "b"]
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(InputError, match="has no model-2.safetensors"):
        read_weights(tmp_path)


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path):
    save_file({"a": np.ones(4, np.float32)}, tmp_path / "model.safetensors")
    read_weights(tmp_path)["a"][:] = 7
    assert read_weights(tmp_path)["a"].tolist() == [1, 1, 1, 1]


def test_a_pickle_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="is a pickle, which can run code: save it as safetensors"):
        weight_files(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 40, -3])
def test_a_truncated_file_is_named(tmp_path, keep):
    file = tmp_path / "model.safetensors"
    save_file({"layer.weight": np.ones((8, 8), np.float32)}, file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_weights(tmp_path)
