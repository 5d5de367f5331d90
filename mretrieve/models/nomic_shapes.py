"""Which tensors a NomicMoE checkpoint holds, told by its config alone, without torch."""

from collections.abc import Mapping

from mretrieve.models.nomic_config import NomicConfig

Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(config: NomicConfig, router: Mapping[str, tuple[int, ...]] | None = None) -> Shapes:
    """Name and shape of each tensor that a checkpoint of this config holds, in the official layout.

    Args:
        config: of the model.
        router: the tensors of one layer's router; those of the softmax router without it.
    """
    hidden, ffn = config.hidden_size, config.intermediate_size
    router = {"layer.weight": (config.num_experts, hidden)} if router is None else router
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, hidden),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
        **_norm_shapes("emb_ln", hidden),
    }
    if config.position_embedding_type == "absolute":
        shapes["embeddings.position_embeddings.weight"] = (config.max_position_embeddings, hidden)
    for i in range(config.num_hidden_layers):
        prefix = f"encoder.layers.{i}."
        shapes |= _linear_shapes(f"{prefix}attn.Wqkv", 3 * hidden, hidden, config.attention_bias)
        shapes |= _linear_shapes(f"{prefix}attn.out_proj", hidden, hidden, config.attention_bias)
        shapes |= _norm_shapes(f"{prefix}norm1", hidden) | _norm_shapes(f"{prefix}norm2", hidden)
        if i in config.moe_layers:
            shapes |= _expert_shapes(f"{prefix}mlp.", config)
            shapes |= {f"{prefix}mlp.router.{name}": shape for name, shape in router.items()}
        else:
            shapes |= _linear_shapes(f"{prefix}mlp.fc1", ffn, hidden, config.fc1_bias)
            shapes |= _linear_shapes(f"{prefix}mlp.fc2", hidden, ffn, config.fc2_bias)
    return shapes


def _expert_shapes(prefix: str, config: NomicConfig) -> dict[str, tuple[int, ...]]:
    rows = config.num_experts * config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}experts.mlp.w1": (rows, config.hidden_size),
        f"{prefix}experts.mlp.w2": (rows, config.hidden_size),
        f"{prefix}experts.bias": (config.hidden_size,),
    }
    if config.expert_biases:
        shapes[f"{prefix}experts.mlp.b1"] = (rows,)
    return shapes


def _linear_shapes(name: str, n_out: int, n_in: int, bias: bool) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n_out, n_in)} | ({f"{name}.bias": (n_out,)} if bias else {})


def _norm_shapes(name: str, hidden: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
