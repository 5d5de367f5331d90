"""What a sentence-transformers folder does with token states: pooling, a linear head, a norm."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.models.weights import read_json, stored_tensors

POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Keys of sentence-transformers up to 5 for the modes that 6 has under `pooling_mode`."""

_KNOWN = (
    ["Transformer", "Pooling"],
    ["Transformer", "Pooling", "Normalize"],
    ["Transformer", "Pooling", "Dense"],
    ["Transformer", "Pooling", "Dense", "Normalize"],
)
_LINEAR = ("torch.nn.modules.linear.Identity", "torch.nn.Identity")


@dataclass(frozen=True)
class Modules:
    """What follows the transformer.

    Attributes:
        names: of all modules, such as `Pooling`.
        pooling: the one mode of pooling, as sentence-transformers calls it; `custom` where the folder asks
            for what is not known here: other modules, several modes, a prompt left out.
        head: folder of the linear layer after pooling, None where there is none.
    """

    names: tuple[str, ...]
    pooling: str
    head: Path | None = None

    @property
    def normalize(self) -> bool:
        """Whether embeddings leave with unit length."""
        return "Normalize" in self.names


@dataclass(frozen=True)
class Head:
    """A linear layer on pooled states: weight (dim, hidden) float32, bias (dim,) float32 or None."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None

    def __call__(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pooled states (n, hidden) to vectors (n, dim), float32."""
        vectors = pooled @ self.weight.T
        return vectors if self.bias is None else vectors + self.bias


def read_modules(folder: Path) -> Modules:
    """Read `modules.json` and what belongs to it; without it, mean pooling and a norm.

    Raises:
        InputError: a settings file is damaged.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return Modules(("Transformer", "Pooling", "Normalize"), "mean")
    entries = json.loads(file.read_text(encoding="utf-8"))
    names = tuple(entry["type"].rsplit(".", 1)[-1] for entry in entries)
    if list(names) not in _KNOWN:
        return Modules(names, "custom")
    pooling = read_json(folder / entries[1]["path"] / "config.json")
    mode = _mode(pooling) if pooling.get("include_prompt", True) else "custom"
    if "Dense" not in names:
        return Modules(names, mode)
    head = folder / entries[2]["path"]
    linear = _is_linear(read_json(head / "config.json")) and (head / "model.safetensors").is_file()
    return Modules(names, mode if linear else "custom", head if linear else None)


def module_list(names: Sequence[str]) -> list[dict[str, Any]]:
    """The `modules.json` of a folder whose modules have these names, the transformer first."""
    return [
        {
            "idx": index,
            "name": str(index),
            "path": "" if index == 0 else f"{index}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for index, name in enumerate(names)
    ]


def module_settings(
    *, prompts: Mapping[str, str], max_length: int, lowercase: bool = False
) -> dict[str, dict[str, Any]]:
    """What sentence-transformers wants to know beside the modules, by file.

    Args:
        prompts: by name.
        max_length: tokens after which texts are cut.
        lowercase: whether texts lose their capitals.
    """
    return {
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": lowercase},
        "config_sentence_transformers.json": {
            "prompts": dict(prompts),
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }


def read_head(folder: Path) -> Head:
    """Read the linear layer of a module's folder.

    Raises:
        InputError: its weights are missing or damaged.
    """
    stored = stored_tensors(folder)
    bias = stored.get("linear.bias")
    weight = stored["linear.weight"].array().astype(np.float32)
    return Head(weight, None if bias is None else bias.array().astype(np.float32))


def head_settings(head: Head) -> dict[str, Any]:
    """The `config.json` of a linear layer as sentence-transformers writes it."""
    n_out, n_in = head.weight.shape
    return {
        "in_features": n_in,
        "out_features": n_out,
        "bias": head.bias is not None,
        "activation_function": _LINEAR[0],
    }


def write_head(head: Head, folder: Path) -> None:
    """Write a linear layer's weights as sentence-transformers' module reads them."""
    from safetensors.numpy import save_file

    tensors = {"linear.weight": head.weight}
    if head.bias is not None:
        tensors["linear.bias"] = head.bias
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors leaves it to its owner alone


def _mode(settings: dict[str, Any]) -> str:
    chosen = settings.get("pooling_mode") or [name for key, name in POOLING_KEYS.items() if settings.get(key)]
    chosen = [chosen] if isinstance(chosen, str) else chosen
    return chosen[0] if len(chosen) == 1 and chosen[0] in POOLING_KEYS.values() else "custom"


def _is_linear(settings: dict[str, Any]) -> bool:
    return (
        settings.get("activation_function") in _LINEAR
        and not settings.get("use_residual", False)
        and settings.get("module_input_name", "sentence_embedding") == "sentence_embedding"
        and settings.get("module_output_name", "sentence_embedding") in (None, "sentence_embedding")
    )
