"""The official `config.json` of nomic-embed-text-v2-moe (GPT2-style names), read and written.

transformers' own `nomic_bert` class claims this file but knows no experts, so it is parsed here. Every
field is either read, or must have the one value that we compute, or is known not to matter; a field that
nobody knows is an error, for it may change what the model computes.
"""

from collections.abc import Mapping
from typing import Any

from mretrieve.errors import InputError
from mretrieve.models.nomic_config import NomicConfig

# Official name -> ours.
_NAMES = {
    "vocab_size": "vocab_size",
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "activation_function": "hidden_act",
    "layer_norm_epsilon": "layer_norm_eps",
    "n_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "rotary_emb_base": "rotary_base",
    "rotary_emb_fraction": "rotary_fraction",
    "rotary_emb_interleaved": "rotary_interleaved",
    "qkv_proj_bias": "attention_bias",
    "mlp_fc1_bias": "fc1_bias",
    "mlp_fc2_bias": "fc2_bias",
    "pad_token_id": "pad_token_id",
    "router_aux_loss_coef": "router_aux_loss_coef",
    "initializer_range": "initializer_range",
}
_REQUIRED = ("vocab_size", "n_embd", "n_layer", "n_head", "n_inner", "activation_function", "n_positions")
# Defaults of the official class where they differ from ours.
_DEFAULTS = {"type_vocab_size": 2, "pad_token_id": 0}

# Fields with one value that we compute; None stands for "absent or null".
_FIXED: dict[str, tuple[Any, ...]] = {
    "prenorm": (False, None),
    "parallel_block": (False, None),
    "parallel_block_tied_norm": (False, None),
    "causal": (False, None),
    "use_rms_norm": (False, None),
    "rotary_emb_scale_base": (None,),
    "rotary_scaling_factor": (None,),
    "scale_attn_weights": (True, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "add_pooling_layer": (False, None),
    "expert_choice_router": (False, None),
    "num_shared_experts": (0, None),
    "ffn_div": (1, None),
}
_EXPERTS = {"num_experts", "moe_top_k", "moe_every_n_layers", "moe_normalize_expert_weights"}
_PADDING = {"pad_vocab_size_multiple"}
# Kernels, dropout in training, heads, generation, and where the file came from.
_NO_MATTER = {
    *("_name_or_path", "architectures", "auto_map", "model_type", "torch_dtype", "dtype"),
    *("transformers_version", "use_flash_attn", "fused_bias_fc", "fused_dropout_add_ln", "use_xentropy"),
    *("use_cache", "reorder_and_upcast_attn", "moe_impl", "dense_seq_output", "max_trained_positions"),
    *("embd_pdrop", "attn_pdrop", "resid_pdrop", "moe_resid_pdrop", "bos_token_id", "eos_token_id"),
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj", "last_layer_subset", "fused_mlp", "fused_dropout", "mlp_checkpoint_lvl"),
    *("id2label", "label2id", "problem_type", "output_hidden_states", "return_dict", "is_encoder_decoder"),
    *("output_attentions", "chunk_size_feed_forward", "tie_word_embeddings", "matryoshka_dim"),
}


def is_official(content: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is in the format of nomic-ai's hub repositories."""
    return content.get("model_type") == "nomic_bert" and "n_embd" in content


def parse_official(content: Mapping[str, Any]) -> NomicConfig:
    """Read an official `config.json`.

    Raises:
        InputError: a field is missing, unknown, or asks for something that we do not compute.
    """
    missing = [name for name in _REQUIRED if content.get(name) is None]
    if missing:
        raise InputError(f"The official NomicBert config lacks the field(s) {', '.join(missing)}.")
    unknown = set(content) - set(_NAMES) - set(_FIXED) - _EXPERTS - _PADDING - _NO_MATTER
    if unknown:
        raise InputError(
            f"The official NomicBert config has the unknown field(s) {', '.join(sorted(unknown))}, which may "
            "change what the model computes."
        )
    for name, allowed in _FIXED.items():
        if content.get(name) not in allowed:
            raise InputError(
                f"Official config field {name} is {content[name]!r}; only {allowed[0]!r} is supported."
            )
    values = {ours: content[name] for name, ours in _NAMES.items() if content.get(name) is not None}
    values = {_NAMES[name]: value for name, value in _DEFAULTS.items()} | values
    values["vocab_size"] = _padded(content["vocab_size"], content.get("pad_vocab_size_multiple"))
    return NomicConfig(**values, **_experts(content))


def _experts(content: Mapping[str, Any]) -> dict[str, Any]:
    n_experts, every = content.get("num_experts") or 0, content.get("moe_every_n_layers")
    if not n_experts and not every:
        return {}  # a dense NomicBert
    if type(n_experts) is not int or n_experts < 1:
        raise InputError(f"Official config field num_experts must be at least 1, got {n_experts!r}.")
    if type(every) is not int or every < 2:
        raise InputError(
            f"Official config field moe_every_n_layers must be at least 2, got {every!r}: layer i has "
            "experts where i % moe_every_n_layers == 1."
        )
    normalize = content.get("moe_normalize_expert_weights")
    if normalize not in (None, False, 1):  # the field is the p of a p-norm
        raise InputError(
            f"Official config field moe_normalize_expert_weights is {normalize!r}; only false and 1 are "
            "supported."
        )
    layers = tuple(i for i in range(content["n_layer"]) if i % every == 1)
    if not layers:
        raise InputError(
            f"moe_every_n_layers {every} gives a model of {content['n_layer']} layers no experts."
        )
    return {
        "moe_layers": layers,
        "num_experts": n_experts,
        "moe_top_k": content.get("moe_top_k") or 0,
        "normalize_gates": bool(normalize),
    }


def official_config(config: NomicConfig) -> dict[str, Any]:
    """Our config as an official `config.json`, for programs that know only that.

    Raises:
        InputError: the model has something that the official format cannot say.
    """
    if config.position_embedding_type != "rotary" or config.expert_biases or config.router != "softmax":
        raise InputError(
            "The official format knows rotary positions, softmax routers and experts without biases only; "
            "save in our own format."
        )
    every, places = _every(config)
    if config.moe_layers != places:
        raise InputError(
            f"The official format cannot say that layers {list(config.moe_layers)} have experts: it knows "
            "layers i with i % n == 1 only. Save in our own format."
        )
    content = {official: getattr(config, ours) for official, ours in _NAMES.items()}
    experts = {
        "num_experts": config.num_experts,
        "moe_top_k": config.moe_top_k,
        "moe_every_n_layers": every,
        "moe_normalize_expert_weights": 1.0 if config.normalize_gates else False,
        "moe_impl": "megablocks",
    }
    fixed = {name: allowed[0] for name, allowed in _FIXED.items()}
    return content | fixed | (experts if every else {}) | _IDENTITY


_IDENTITY = {
    "model_type": "nomic_bert",
    "architectures": ["NomicBertModel"],
    "pad_vocab_size_multiple": 1,
    "torch_dtype": "float32",
}


def _every(config: NomicConfig) -> tuple[int, tuple[int, ...]]:
    """The official spacing that starts like `moe_layers`, and the layers that it stands for."""
    layers = config.moe_layers
    if not layers:
        return 0, ()
    every = layers[1] - layers[0] if len(layers) > 1 else config.num_hidden_layers
    every = max(every, 2)
    return every, tuple(i for i in range(config.num_hidden_layers) if i % every == 1)


def _padded(vocab_size: Any, multiple: Any) -> Any:
    """The official code grows the vocabulary to a multiple when it makes the model."""
    if type(vocab_size) is not int or type(multiple) is not int or multiple < 1:
        return vocab_size
    return -(-vocab_size // multiple) * multiple
