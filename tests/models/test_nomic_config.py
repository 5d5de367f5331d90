import json

import pytest

from mretrieve.errors import InputError
from mretrieve.models.nomic_config import MODEL_TYPE, NomicConfig, parse_config
from tests.models.nomic import TINY, tiny_config


def test_the_config_survives_json():
    config = tiny_config(
        hidden_act="relu",
        position_embedding_type="absolute",
        first_position=2,
        router="language",
        languages=("de", "sw"),
        balance_loss="switch",
        final_output_masking=0.25,
    )
    content = json.loads(json.dumps(config.to_dict() | {"model_type": MODEL_TYPE, "dtype": "float32"}))
    assert parse_config(content) == config


def test_derived_sizes():
    config = tiny_config(rotary_fraction=0.5)
    assert (config.head_dim, config.rotary_dim, config.max_length) == (8, 4, 64)
    absolute = tiny_config(position_embedding_type="absolute", first_position=2)
    assert absolute.max_length == 62


def test_whole_numbers_serve_as_floats():
    assert tiny_config(rotary_base=10000) == tiny_config(rotary_base=10000.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moe_top_k": 5}, r"moe_top_k must be between 1 and num_experts \(4\), got 5"),
        ({"moe_top_k": 0}, "moe_top_k must be between 1"),
        ({"num_experts": 0}, "num_experts must be at least 1"),
        ({"moe_layers": (1, 3)}, r"moe_layers \[1, 3\] must lie between 0 and 2"),
        ({"moe_layers": (2, 1)}, "rising order"),
        ({"moe_layers": (True,)}, "moe_layers must be layer numbers"),
        ({"hidden_act": "swiglu"}, "Unknown hidden_act 'swiglu'. Known: gelu, gelu_pytorch_tanh, relu"),
        ({"position_embedding_type": "alibi"}, "Known: rotary, absolute"),
        ({"num_attention_heads": 5}, "hidden_size 32 is no multiple of num_attention_heads 5"),
        ({"vocab_size": 0}, "vocab_size must be above 0"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps must be above 0"),
        ({"hidden_size": "32"}, "hidden_size must be int, got '32'"),
        ({"fc1_bias": 1}, "fc1_bias must be bool"),
        ({"rotary_fraction": 0.4}, "must give an even number of features"),
        ({"first_position": 2}, "belongs to absolute positions"),
        ({"position_embedding_type": "absolute", "first_position": 64}, "must lie below"),
        ({"router": "sofmax"}, "Unknown router 'sofmax'. Known, nearest first: softmax, "),
        ({"router": "topp"}, "Known, nearest first: top_p, "),
        ({"router_dim": -1}, "router_dim must be 0 or above, got -1"),
        ({"router_temperature": 0}, "router_temperature must be above 0"),
        ({"router_top_p": 0.0}, "router_top_p must be above 0 and at most 1, got 0.0"),
        ({"router_top_p": 1.5}, "router_top_p must be above 0 and at most 1, got 1.5"),
        ({"router_stage": 3, "router": "stable"}, "router_stage must be 1, or 2 with the router 'stable'"),
        ({"router_stage": 2}, "got 2 with 'softmax'"),
        ({"router": "language"}, "needs the field languages"),
        ({"languages": "de"}, "languages must be a list of language codes, got 'de'"),
        ({"languages": ["de", 3]}, "must be a list of language codes"),
        ({"languages": ["de", "de"]}, "must be different codes"),
        ({"router": "stratified", "moe_top_k": 3}, "num_experts 4 is no multiple of moe_top_k 3"),
        ({"balance_loss": "even"}, "Unknown balance_loss 'even'. Known: megablocks, switch, gshard, stable"),
        ({"router_z_loss_coef": -0.1}, "router_z_loss_coef must be 0 or above, got -0.1"),
        ({"expert_output_masking": 1.0}, "expert_output_masking must be a probability below 1, got 1.0"),
        ({"hidden_dropout": -0.1}, "hidden_dropout must be a probability"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        NomicConfig(**(TINY | changes))


def test_missing_fields_and_other_models_are_named():
    content = tiny_config().to_dict() | {"model_type": MODEL_TYPE}
    del content["hidden_size"]
    with pytest.raises(InputError, match=r"lacks the field\(s\) hidden_size"):
        parse_config(content)
    with pytest.raises(InputError, match="has model_type 'bert'"):
        parse_config({"model_type": "bert"})
