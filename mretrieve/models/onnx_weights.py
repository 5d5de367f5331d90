"""The weights that an ONNX graph names, made from a checkpoint's tensors.

A name is that of a tensor, then perhaps the rows that are used, `[0:384]`, then perhaps `.T` for the
transpose, then perhaps what is wanted of it in eight bits: `.int8` and `.scale` with one scale per column,
`.row_int8` and `.row_scale` with one per row. Slices are views, so nothing is copied that stays float32.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.weights import StoredTensor

_NAME = re.compile(
    r"(?P<tensor>[^\[]+?)(\[(?P<start>\d+):(?P<stop>\d+)\])?(?P<turned>\.T)?"
    r"(\.(?P<part>int8|scale|row_int8|row_scale))?"
)
_POSITIONS = "embeddings.position_embeddings.weight"
_TYPES = "embeddings.token_type_embeddings.weight"

Tensors = Mapping[str, NDArray[Any]]


def check_router(config: NomicConfig) -> None:
    """Raise InputError unless the router is one that the graphs know."""
    if config.moe_layers and config.router != "softmax":
        raise InputError(
            f"A model with the router '{config.router}' cannot be written as ONNX; only 'softmax' can."
        )


def graph_tensors(config: NomicConfig, tensors: Tensors) -> dict[str, NDArray[Any]]:
    """A checkpoint's tensors, and those that graphs use in the place of several: positions, rotary tables.

    Args:
        config: of the model.
        tensors: by the names of the official file, any float type.
    """
    made = dict(tensors)
    if _TYPES in made:
        places = made.pop(_TYPES)[:1].astype(np.float32)  # every token has type 0
        if config.position_embedding_type == "absolute" and _POSITIONS in made:
            places = places + made.pop(_POSITIONS)[config.first_position :].astype(np.float32)
        made["places"] = places
    if config.position_embedding_type == "rotary":
        exponents = np.arange(0, config.rotary_dim, 2, dtype=np.float32) / np.float32(config.rotary_dim)
        speeds = np.float32(1) / np.float32(config.rotary_base) ** exponents
        angles = np.arange(config.max_position_embeddings, dtype=np.float32)[:, None] * speeds
        made |= {"rotary.cos": np.cos(angles), "rotary.sin": np.sin(angles)}
    return made


def mapped_folder(stored: Mapping[str, StoredTensor]) -> Path | None:
    """Where a checkpoint's files really are, if a float32 graph can read its weights from them; else None."""
    folders = {tensor.file.resolve().parent for tensor in stored.values()}
    kinds = {tensor.kind for tensor in stored.values()}
    return folders.pop() if len(folders) == 1 and kinds == {"F32"} else None


def weight_of(name: str, tensors: Tensors) -> NDArray[Any]:
    """The weight of a name, contiguous, float32 or int8.

    Args:
        name: as above.
        tensors: from `graph_tensors`.
    """
    match = _NAME.fullmatch(name)
    assert match is not None, name
    parts = match.groupdict()
    array = tensors[parts["tensor"]]
    if parts["start"] is not None:
        array = array[int(parts["start"]) : int(parts["stop"])]
    array = array.astype(np.float32, copy=False)
    if parts["part"] is None:
        return np.ascontiguousarray(array.T if parts["turned"] else array)
    return _quantized(array, parts["part"], turned=bool(parts["turned"]))


def _quantized(array: NDArray[np.float32], part: str, *, turned: bool) -> NDArray[Any]:
    """Codes from -127 to 127, or their scales."""
    axis = 1 if part.startswith("row_") != turned else 0  # along which one scale holds
    scale = np.maximum(np.abs(array).max(axis=axis, keepdims=True) / np.float32(127), np.float32(1e-30))
    if part == "row_scale":
        return np.ascontiguousarray(scale)
    if part == "scale":
        return np.ascontiguousarray(scale.reshape(-1))
    codes = np.rint(array / scale).astype(np.int8)
    return np.ascontiguousarray(codes.T if turned else codes)
