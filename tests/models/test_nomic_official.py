import json

import pytest

from mretrieve.errors import InputError
from mretrieve.models.nomic_official import is_official, official_config, parse_official
from tests.models.nomic import ABSENT, FIXTURE, tiny_config


def official(**changes):
    """The fields of the hub's file that say something, at a small size."""
    return {
        "model_type": "nomic_bert",
        "activation_function": "gelu",
        "n_embd": 32,
        "n_head": 4,
        "n_inner": 40,
        "n_layer": 4,
        "n_positions": 64,
        "vocab_size": 48,
        "layer_norm_epsilon": 1e-6,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "rotary_emb_base": 5000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "qkv_proj_bias": True,
        "mlp_fc1_bias": True,
        "mlp_fc2_bias": True,
        "num_experts": 8,
        "moe_top_k": 2,
        "moe_every_n_layers": 2,
        "moe_normalize_expert_weights": False,
        "router_aux_loss_coef": 0.1,
        "use_rms_norm": None,
    } | changes


def test_each_field_is_read():
    config = parse_official(official())
    assert config == tiny_config(
        num_hidden_layers=4,
        layer_norm_eps=1e-6,
        rotary_base=5000.0,
        moe_layers=(1, 3),
        num_experts=8,
        router_aux_loss_coef=0.1,
    )
    assert parse_official(official(moe_every_n_layers=3, n_layer=6)).moe_layers == (1, 4)
    assert parse_official(official(moe_normalize_expert_weights=1.0)).normalize_gates
    assert parse_official(official(vocab_size=48, pad_vocab_size_multiple=64)).vocab_size == 64


def test_a_config_without_experts_is_a_dense_model():
    content = official(num_experts=0, moe_every_n_layers=0)
    assert parse_official(content).moe_layers == ()


@pytest.mark.skipif(not FIXTURE.exists(), reason=ABSENT)
def test_the_hub_file_is_read():
    content = json.loads((FIXTURE / "config.json").read_text(encoding="utf-8"))
    assert is_official(content)
    config = parse_official(content)
    assert (config.hidden_size, config.moe_layers, config.moe_top_k) == (64, (1, 3), 2)
    assert parse_official(official_config(config)) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"moe_layers": (1,)},
        {"moe_layers": (1, 3), "num_hidden_layers": 4, "normalize_gates": True},
        {"moe_layers": (1, 4), "num_hidden_layers": 5, "rotary_base": 500.0},
        {"moe_layers": (), "num_experts": 0, "moe_top_k": 0},
    ],
)
def test_what_is_written_is_read_back(changes):
    config = tiny_config(**changes)
    assert parse_official(official_config(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moe_layers": (1, 2)}, r"cannot say that layers \[1, 2\] have experts"),
        ({"moe_layers": (0,)}, "cannot say"),
        ({"moe_layers": (1,), "num_hidden_layers": 9, "expert_biases": True}, "save in our own format"),
        ({"moe_layers": (1,), "position_embedding_type": "absolute"}, "save in our own format"),
    ],
)
def test_what_the_official_format_cannot_say(changes, message):
    with pytest.raises(InputError, match=message):
        official_config(tiny_config(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moe_every_n_layers": 0}, "moe_every_n_layers must be at least 2, got 0"),
        ({"moe_every_n_layers": 1}, "moe_every_n_layers must be at least 2, got 1"),
        ({"moe_every_n_layers": None}, "moe_every_n_layers must be at least 2, got None"),
        ({"num_experts": 1}, r"moe_top_k must be between 1 and num_experts \(1\), got 2"),
        ({"num_experts": 0}, "num_experts must be at least 1"),
        ({"n_layer": 1}, "gives a model of 1 layers no experts"),
        ({"activation_function": "swiglu"}, "Unknown hidden_act 'swiglu'"),
        ({"prenorm": True}, "prenorm is True; only False is supported"),
        ({"num_shared_experts": 1}, "num_shared_experts is 1; only 0"),
        ({"expert_choice_router": True}, "expert_choice_router"),
        ({"rotary_scaling_factor": 2.0}, "rotary_scaling_factor is 2.0; only None"),
        ({"moe_normalize_expert_weights": 2}, "moe_normalize_expert_weights is 2"),
        ({"n_embd": None}, r"lacks the field\(s\) n_embd"),
        ({"new_trick": 1}, r"unknown field\(s\) new_trick"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        parse_official(official(**changes))
