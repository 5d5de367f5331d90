import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mretrieve.errors import InputError
from mretrieve.models.bert import is_bert, read_bert


def test_positions_start_where_the_family_starts_them(checkpoint):
    assert read_bert(checkpoint(kind="bert")).config.first_position == 0
    assert read_bert(checkpoint(kind="xlm-roberta")).config.first_position == 2


def test_names_with_a_prefix_are_the_same(checkpoint):
    folder = checkpoint()
    plain = read_bert(folder).tensors
    weights = load_file(folder / "model.safetensors")
    save_file({f"bert.{name}": tensor for name, tensor in weights.items()}, folder / "model.safetensors")
    prefixed = read_bert(folder).tensors
    assert plain.keys() == prefixed.keys()


def test_missing_and_misshaped_tensors_are_named(checkpoint):
    folder = checkpoint()
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    wrong = dict(weights) | {name: np.ones((3, 3), np.float32)}
    save_file(wrong, folder / "model.safetensors")
    with pytest.raises(
        InputError, match=r"output\.dense\.weight has shape \(3, 3\), its config says \(32, 64\)"
    ):
        read_bert(folder)
    del wrong[name]
    save_file(wrong, folder / "model.safetensors")
    with pytest.raises(InputError, match="lacks 1 tensors of its config"):
        read_bert(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"model_type": "nomic_bert"}, False),
        ({"hidden_act": "relu"}, False),
        ({"position_embedding_type": "relative_key"}, False),
        ({"is_decoder": True}, False),
    ],
)
def test_other_architectures_are_left_to_their_own_code(checkpoint, change, expected):
    config = json.loads((checkpoint() / "config.json").read_text()) | change
    assert is_bert(config) is expected
