"""Make a sparse mixture-of-experts encoder out of a trained dense one.

Komatsuzaki et al., 2023, Sparse Upcycling (arXiv:2212.05055). Each expert starts as a copy of the layer's
feed-forward network, so training starts from what the dense model knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mretrieve.errors import InputError
from mretrieve.models.bert import is_bert, read_bert
from mretrieve.models.config_file import read_config_file
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_files import load_nomic_moe
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.nomic_moe import NomicMoEModel
from mretrieve.models.routers import make_router

WAYS = ("exact", "nomic")
FIELDS = (
    *("router", "router_dim", "router_temperature", "router_top_p", "languages", "language_dropout"),
    *("balance_loss", "router_aux_loss_coef", "router_z_loss_coef", "router_entropy_coef"),
    *("router_distillation_coef", "expert_output_masking", "final_output_masking", "hidden_dropout"),
)
"""Fields of `NomicConfig` that `upcycle` takes beside its own arguments."""

# Our name -> that of transformers' BertModel, within a layer; Wqkv is put together from three.
_BERT_LAYER = {
    "attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm2": "output.LayerNorm",
}


def expert_layers(n_layers: int, *, every: int = 2, last: int | None = None) -> tuple[int, ...]:
    """Layers that get experts.

    Args:
        n_layers: of the encoder.
        every: 1 for all layers; else the official spacing, layers i with i % every == 1.
        last: only among so many layers at the end; everywhere without it. In Post-MoE (Zheng et al., 2024,
            arXiv:2410.10626) routing parts languages in the last layers, so these alone become sparse:
            `every=1, last=2`.

    Returns:
        Layer numbers from 0, at least one.

    Raises:
        InputError: `every` or `last` leaves no layer.
    """
    if every < 1:
        raise InputError(f"Experts every {every} layers is not possible: give 1 (all), 2, or more.")
    first = 0 if last is None else n_layers - last
    layers = tuple(i for i in range(max(first, 0), n_layers) if every == 1 or i % every == 1)
    if not layers:
        raise InputError(
            f"No layer would get experts with every {every}, last {last}, in a model of {n_layers} layers."
        )
    return layers


def upcycle(
    base: Path | str,
    *,
    moe_layers: Sequence[int],
    num_experts: int = 8,
    top_k: int = 2,
    way: str = "exact",
    noise: float = 0.0,
    seed: int = 0,
    **fields: Any,
) -> NomicMoEModel:
    """Upcycle a BERT-like checkpoint (BERT, RoBERTa, XLM-R, CamemBERT) or a dense NomicBert.

    `exact` keeps the biases, one inner bias per expert, and divides the gates by their sum: without noise
    the new model computes what the base does with any router, for experts that are alike count as one.
    `nomic` does as the official code (contrastors): the biases of the layer are lost and the gates sum to
    less than 1, so the model has to be trained before it is of use. In both, fresh routers, normal with the
    config's spread, break the symmetry.

    Args:
        base: folder of the dense checkpoint.
        moe_layers: layers that get experts, see `expert_layers`.
        num_experts: copies per layer.
        top_k: experts per token.
        way: `exact` or `nomic`.
        noise: standard deviation of what is added to the experts' matrices, as a part of the matrix's
            own; 0 for exact copies.
        seed: of routers and noise.
        fields: the new model's other choices, as `router="xmoe"`: any of `FIELDS`, see `NomicConfig`.

    Returns:
        The sparse model in float32, in evaluation mode; positions stay as in the base.

    Raises:
        InputError: the base is no dense encoder that we know, or the choices do not fit together.
    """
    if way not in WAYS:
        raise InputError(f"Unknown way to upcycle '{way}'. Known: {', '.join(WAYS)}.")
    if not moe_layers:
        raise InputError("Upcycling with no layers of experts changes nothing: give at least one.")
    if not noise >= 0:
        raise InputError(f"noise must be 0 or above, got {noise}.")
    _check_fields(fields)
    dense, tensors = read_dense(Path(base))
    exact = way == "exact"
    config = replace(
        dense,
        moe_layers=tuple(sorted(moe_layers)),
        num_experts=num_experts,
        moe_top_k=top_k,
        normalize_gates=exact,
        expert_biases=exact and dense.fc1_bias,
        **fields,
    )
    generator = torch.Generator().manual_seed(seed)
    for layer in config.moe_layers:
        _upcycle_layer(tensors, f"encoder.layers.{layer}.mlp.", config, noise, generator)
    if config.router == "stable":
        table = torch.randn(config.vocab_size, config.light_dim, generator=generator)
        tensors["router_embeddings.weight"] = table * config.initializer_range
    with torch.device("meta"):
        model = NomicMoEModel(NomicMoEConfig(**config.to_dict()))
    model.load_state_dict(tensors, strict=True, assign=True)
    model.train(False)
    return model


def _upcycle_layer(
    tensors: dict[str, Tensor], prefix: str, config: NomicConfig, noise: float, generator: torch.Generator
) -> None:
    """Replace one layer's feed-forward network by experts that copy it."""
    n = config.num_experts
    fc1, fc2 = tensors.pop(f"{prefix}fc1.weight"), tensors.pop(f"{prefix}fc2.weight")
    b1, b2 = tensors.pop(f"{prefix}fc1.bias", None), tensors.pop(f"{prefix}fc2.bias", None)
    for name, weight in (("w1", fc1), ("w2", fc2.t())):
        copies = weight.repeat(n, 1)  # (n_experts * ffn, hidden)
        if noise:
            copies += torch.randn(copies.shape, generator=generator) * (noise * weight.std())
        tensors[f"{prefix}experts.mlp.{name}"] = copies
    if config.expert_biases and b1 is not None:
        tensors[f"{prefix}experts.mlp.b1"] = b1.repeat(n)
    keep = config.normalize_gates and b2 is not None
    tensors[f"{prefix}experts.bias"] = b2 if keep and b2 is not None else torch.zeros(config.hidden_size)
    router = make_router(config)
    router.reset(config.initializer_range, generator)
    tensors |= {f"{prefix}router.{name}": tensor for name, tensor in router.state_dict().items()}


def _check_fields(fields: Mapping[str, Any]) -> None:
    """Raise InputError unless all are among `FIELDS`."""
    for name in fields:
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"Upcycling knows no '{name}'.{hint} It takes {', '.join(FIELDS)}.")


def layer_count(folder: Path | str) -> int:
    """How many layers a checkpoint has, by its config alone.

    Raises:
        InputError: it has no config, or one that does not say.
    """
    content = read_config_file(Path(folder))
    for name in ("num_hidden_layers", "n_layer"):
        if type(content.get(name)) is int:
            return int(content[name])
    raise InputError(f"{Path(folder) / 'config.json'} does not say how many layers the model has.")


def read_dense(folder: Path) -> tuple[NomicConfig, dict[str, Tensor]]:
    """A dense encoder as a NomicMoE without experts: its config, and its tensors under our names.

    Raises:
        InputError: the folder holds no encoder that we know, or one that has experts already.
    """
    content = read_config_file(folder)
    if is_bert(content):
        return _read_bert(folder, content)
    model = load_nomic_moe(folder)
    if model.sizes.moe_layers:
        raise InputError(f"{folder} has experts already (layers {list(model.sizes.moe_layers)}).")
    return model.sizes, dict(model.state_dict())


def _read_bert(folder: Path, content: dict[str, Any]) -> tuple[NomicConfig, dict[str, Tensor]]:
    weights = read_bert(folder)
    sizes = weights.config
    source = {name: torch.from_numpy(array) for name, array in weights.tensors.items()}
    positions = source["embeddings.position_embeddings.weight"]
    types = source["embeddings.token_type_embeddings.weight"]
    config = NomicConfig(
        vocab_size=content["vocab_size"],
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.ffn,
        layer_norm_eps=sizes.eps,
        max_position_embeddings=positions.shape[0],
        type_vocab_size=types.shape[0],
        pad_token_id=content.get("pad_token_id") or 0,
        position_embedding_type="absolute",
        first_position=sizes.first_position,
    )
    tensors = {name: source[name] for name in source if name.endswith("_embeddings.weight")}
    for kind in ("weight", "bias"):
        tensors[f"emb_ln.{kind}"] = source[f"embeddings.LayerNorm.{kind}"]
        for layer in range(sizes.layers):
            ours, theirs = f"encoder.layers.{layer}.", f"encoder.layer.{layer}."
            parts = [source[f"{theirs}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            tensors[f"{ours}attn.Wqkv.{kind}"] = torch.cat(parts)
            for new, old in _BERT_LAYER.items():
                tensors[f"{ours}{new}.{kind}"] = source[f"{theirs}{old}.{kind}"]
    return config, tensors
