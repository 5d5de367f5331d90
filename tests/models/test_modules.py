"""What a sentence-transformers folder does after the transformer, a linear head included."""

import json

import numpy as np
import pytest
from sentence_transformers.sentence_transformer.modules import Dense
from torch import nn

from mretrieve.models.modules import Head, head_settings, read_head, read_modules, write_head


def write_folder(folder, kinds, pooling, dense=None):
    paths = ["" if number == 0 else f"{number}_{kind}" for number, kind in enumerate(kinds)]
    entries = [{"path": path, "type": f"x.{kind}"} for path, kind in zip(paths, kinds, strict=True)]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if dense is not None:
        (folder / "2_Dense").mkdir()
        dense.save(str(folder / "2_Dense"))
    return folder


def test_a_bare_folder_is_pooled_by_the_mean(tmp_path):
    modules = read_modules(tmp_path)
    assert (modules.pooling, modules.head, modules.normalize) == ("mean", None, True)


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, "lasttoken"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, "custom"),
        ({"pooling_mode": "mean", "include_prompt": False}, "custom"),
        ({"pooling_mode": "attention"}, "custom"),
    ],
)
def test_modes_under_old_and_new_keys(tmp_path, settings, mode):
    assert read_modules(write_folder(tmp_path, ["Transformer", "Pooling"], settings)).pooling == mode


def test_other_modules_are_not_ours(tmp_path):
    folder = write_folder(tmp_path, ["Transformer", "Pooling", "LayerNorm"], {"pooling_mode": "mean"})
    assert read_modules(folder).pooling == "custom"


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_of_the_library_is_read(tmp_path, bias):
    dense = Dense(4, 3, bias=bias, activation_function=nn.Identity())
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    modules = read_modules(write_folder(tmp_path, kinds, {"pooling_mode": "mean"}, dense))
    assert (modules.pooling, modules.normalize) == ("mean", True)
    import torch

    pooled = np.arange(8, dtype=np.float32).reshape(2, 4)
    expected = dense({"sentence_embedding": torch.from_numpy(pooled)})["sentence_embedding"]
    np.testing.assert_allclose(read_head(modules.head)(pooled), expected.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("change", [{"activation_function": nn.Tanh()}, {"use_residual": True}])
def test_layers_that_are_more_than_linear_are_left_to_the_library(tmp_path, change):
    settings = {"activation_function": nn.Identity()} | change
    kinds = ["Transformer", "Pooling", "Dense"]
    modules = read_modules(write_folder(tmp_path, kinds, {"pooling_mode": "mean"}, Dense(4, 4, **settings)))
    assert (modules.pooling, modules.head) == ("custom", None)


@pytest.mark.parametrize("bias", [True, False])
def test_the_library_reads_what_is_written(tmp_path, bias):
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(3, 4)).astype(np.float32)
    head = Head(weight, np.ones(3, np.float32) if bias else None)
    write_head(head, tmp_path / "2_Dense")
    (tmp_path / "2_Dense" / "config.json").write_text(json.dumps(head_settings(head)))
    dense = Dense.load(str(tmp_path / "2_Dense"))
    np.testing.assert_array_equal(dense.linear.weight.detach().numpy(), weight)
    assert (dense.linear.bias is not None) == bias
    assert isinstance(dense.activation_function, nn.Identity)
