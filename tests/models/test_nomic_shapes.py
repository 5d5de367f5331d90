import pytest

from mretrieve.models.nomic_shapes import tensor_shapes
from tests.models.nomic import tiny_config, tiny_model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"expert_biases": True, "position_embedding_type": "absolute", "type_vocab_size": 2},
        {"attention_bias": False, "fc1_bias": False, "fc2_bias": False},
    ],
)
def test_shapes_are_those_of_the_torch_model(changes):
    config = tiny_config(**changes)
    wanted = {name: tuple(tensor.shape) for name, tensor in tiny_model(config).state_dict().items()}
    assert tensor_shapes(config) == wanted
