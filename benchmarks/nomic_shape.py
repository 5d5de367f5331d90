"""A checkpoint with the shape of Nomic Embed v2 and random weights, in the official format."""

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_official import official_config
from mretrieve.models.nomic_shapes import tensor_shapes

V2 = NomicConfig(
    vocab_size=250048,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    moe_layers=(1, 3, 5, 7, 9, 11),
    num_experts=8,
    moe_top_k=2,
)
"""Sizes of nomic-embed-text-v2-moe: 475,292,928 parameters."""


def write_checkpoint(folder: Path, config: NomicConfig = V2, *, seed: int = 1) -> Path:
    """Write `config.json` and float32 safetensors, tensor by tensor.

    The bias that all tokens of an expert layer share is 0, because llama.cpp leaves it out.

    Returns:
        The safetensors file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(official_config(config)), encoding="utf-8")
    shapes = tensor_shapes(config)
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    file = folder / "model.safetensors"
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            stream.write(_values(name, shape, rng).tobytes())
    return file


def _values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    values = rng.standard_normal(shape, np.float32)
    if name.endswith("experts.bias"):
        return np.zeros_like(values)
    spread = 0.05 if "router" in name else 0.02  # decided routers, and all else as in a fresh model
    values *= np.float32(spread)
    return values + np.float32("norm" in name or "emb_ln" in name) * np.float32(name.endswith("weight"))


def text_lengths(n_texts: int, *, seed: int = 7) -> list[int]:
    """Tokens of realistic texts: lognormal, mean 100, at least 8, at most 512."""
    sigma = 0.8
    drawn = np.random.default_rng(seed).lognormal(math.log(100) - sigma**2 / 2, sigma, n_texts)
    return [int(length) for length in np.clip(np.round(drawn), 8, 512)]


def token_ids(lengths: list[int], *, seed: int = 7) -> list[NDArray[np.int32]]:
    """Random texts of these lengths."""
    rng = np.random.default_rng(seed)
    return [rng.integers(4, V2.vocab_size, length).astype(np.int32) for length in lengths]


def active_flops(lengths: list[int], config: NomicConfig = V2) -> float:
    """Multiplications and additions that texts need: matrices of chosen experts only, and attention."""
    hidden, ffn, tokens = config.hidden_size, config.intermediate_size, sum(lengths)
    total = 0.0
    for layer in range(config.num_hidden_layers):
        networks = config.moe_top_k if layer in config.moe_layers else 1
        total += 2 * tokens * (4 * hidden * hidden + 2 * networks * hidden * ffn)
        total += 4 * hidden * sum(length**2 for length in lengths)
    return total
