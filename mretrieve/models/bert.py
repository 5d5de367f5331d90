"""Weights of BERT-like encoders (BERT, RoBERTa, XLM-R, CamemBERT) under one set of names.

Devlin et al., 2019 (arXiv:1810.04805); Conneau et al., 2020 (arXiv:1911.02116).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.models.weights import read_weights

_ROBERTA = {"roberta", "xlm-roberta", "camembert"}
_KNOWN = {"bert"} | _ROBERTA
_LINEARS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT-like encoder; `first_position` is 0, or pad id + 1 in the RoBERTa family."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    eps: float
    first_position: int


@dataclass(frozen=True)
class BertWeights:
    """Float32 tensors by the names of transformers' BertModel, and their sizes."""

    config: BertConfig
    tensors: dict[str, NDArray[np.float32]]


def is_bert(config: dict[str, Any]) -> bool:
    """Whether a transformers `config.json` describes an encoder that this module reads."""
    return (
        config.get("model_type") in _KNOWN
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


def read_bert(folder: Path) -> BertWeights:
    """Read a BERT-like checkpoint.

    Args:
        folder: holds `config.json` and safetensors.

    Raises:
        InputError: tensors are missing or wrongly shaped; they are named.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes = BertConfig(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        ffn=config["intermediate_size"],
        eps=config["layer_norm_eps"],
        first_position=config["pad_token_id"] + 1 if config["model_type"] in _ROBERTA else 0,
    )
    found = {_plain(name): tensor for name, tensor in read_weights(folder).items()}
    shapes = _shapes(
        sizes, config["vocab_size"], config["max_position_embeddings"], config["type_vocab_size"]
    )
    missing = [name for name in shapes if name not in found]
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} tensors of its config, first {missing[:3]}.")
    wrong = [name for name, shape in shapes.items() if found[name].shape != shape]
    if wrong:
        name = wrong[0]
        raise InputError(f"{folder}: {name} has shape {found[name].shape}, its config says {shapes[name]}.")
    return BertWeights(sizes, {name: found[name].astype(np.float32, copy=False) for name in shapes})


def _plain(name: str) -> str:
    for prefix in ("bert.", "roberta."):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _shapes(sizes: BertConfig, words: int, positions: int, types: int) -> dict[str, tuple[int, ...]]:
    hidden, ffn = sizes.hidden, sizes.ffn
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (words, hidden),
        "embeddings.position_embeddings.weight": (positions, hidden),
        "embeddings.token_type_embeddings.weight": (types, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    for layer in range(sizes.layers):
        prefix = f"encoder.layer.{layer}."
        for linear in _LINEARS:
            out = ffn if linear == "intermediate.dense" else hidden
            shapes[f"{prefix}{linear}.weight"] = (out, ffn if linear == "output.dense" else hidden)
            shapes[f"{prefix}{linear}.bias"] = (out,)
        for norm in _NORMS:
            shapes[f"{prefix}{norm}.weight"] = shapes[f"{prefix}{norm}.bias"] = (hidden,)
    return shapes
