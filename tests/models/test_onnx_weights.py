import numpy as np
import pytest
import torch

from mretrieve.errors import InputError
from mretrieve.models.onnx_weights import (
    check_router,
    graph_tensors,
    mapped_folder,
    weight_of,
)
from mretrieve.models.rotary import rotary_tables
from mretrieve.models.weights import stored_tensors
from tests.models.nomic import official_folder, tiny_config, tiny_model

W = np.array([[1, -2, 4], [8, 0, 127]], np.float32)


def test_parts_are_views():
    tensors = {"a.weight": np.arange(12, dtype=np.float32).reshape(4, 3)}
    part = weight_of("a.weight[1:3]", tensors)
    assert part.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert np.shares_memory(part, tensors["a.weight"])
    assert weight_of("a.weight[1:3].T", tensors).tolist() == [[3, 6], [4, 7], [5, 8]]
    assert weight_of("a.weight", {"a.weight": W.astype(np.float16)}).dtype == np.float32


def test_codes_have_a_scale_per_column_or_row():
    tensors = {"w": W}
    columns = np.array([8, 2, 127]) / 127
    np.testing.assert_allclose(weight_of("w.scale", tensors), columns, rtol=1e-6)
    assert weight_of("w.int8", tensors).tolist() == np.rint(W / columns).astype(int).tolist()
    rows = np.array([4, 127]) / 127
    np.testing.assert_allclose(weight_of("w.row_scale", tensors), rows[:, None], rtol=1e-6)
    codes = np.rint(W / rows[:, None]).astype(int)
    assert weight_of("w.row_int8", tensors).tolist() == codes.tolist() == [[32, -64, 127], [8, 0, 127]]
    np.testing.assert_allclose(weight_of("w.T.scale", tensors), rows, rtol=1e-6)  # of the transpose's columns
    assert weight_of("w.T.int8", tensors).tolist() == codes.T.tolist()
    zeros = {"w": np.zeros((2, 2), np.float32)}
    assert not weight_of("w.int8", zeros).any()
    assert np.isfinite(weight_of("w.scale", zeros)).all()


def test_positions_and_types_are_added_up_beforehand():
    config = tiny_config(position_embedding_type="absolute", first_position=2)
    tensors = {name: tensor.numpy() for name, tensor in tiny_model(config).state_dict().items()}
    made = graph_tensors(config, tensors)
    types, positions = (
        tensors[f"embeddings.{name}_embeddings.weight"] for name in ("token_type", "position")
    )
    np.testing.assert_array_equal(made["places"], types[0] + positions[2:])
    assert "rotary.cos" not in made
    assert graph_tensors(tiny_config(), {name: tensors[name] for name in tensors if "position" not in name})[
        "places"
    ].shape == (1, 32)


def test_rotary_tables_are_torchs():
    config = tiny_config(rotary_fraction=0.5, rotary_base=1000.0)
    made = graph_tensors(config, {})
    cos, sin = rotary_tables(torch.arange(64), dim=4, base=1000.0)
    np.testing.assert_allclose(made["rotary.cos"], cos.numpy(), atol=2e-6)
    np.testing.assert_allclose(made["rotary.sin"], sin.numpy(), atol=2e-6)
    assert made["rotary.cos"].dtype == np.float32


def test_other_routers_are_named():
    with pytest.raises(InputError, match="router 'xmoe' cannot be written as ONNX; only 'softmax' can"):
        check_router(tiny_config(router="xmoe"))
    check_router(tiny_config())


def test_only_float32_files_of_one_folder_are_used_in_place(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = official_folder(tmp_path / "model")
    linked = tmp_path / "snapshot"
    linked.mkdir()
    (linked / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert mapped_folder(stored_tensors(linked)) == folder.resolve()
    half = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(half, folder / "model.safetensors")
    assert mapped_folder(stored_tensors(folder)) is None
