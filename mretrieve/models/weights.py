"""Read checkpoints: settings, and safetensors by memory map, so that a tensor costs nothing until touched."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def read_json(file: Path) -> dict[str, Any]:
    """One of a checkpoint's settings files: a JSON object, empty where the file does not exist.

    Raises:
        InputError: it holds anything else.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON ({error}). Fetch it again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no JSON object. Fetch it again.")
    return content


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder, in order.

    Raises:
        InputError: there are none, or one that the index names is missing.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / name for name in names]
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        if not file.is_file():
            hint = ""
            if (folder / "pytorch_model.bin").is_file():
                hint = " Its pytorch_model.bin is a pickle, which can run code: save it as safetensors first."
            raise InputError(f"{folder} has no {file.name}.{hint}")
    return files


def read_weights(folder: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a checkpoint, memory-mapped; bfloat16 ones are widened to float32.

    Raises:
        InputError: a file is missing or damaged.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for file in weight_files(folder):
        tensors |= _read_file(file)
    return tensors


def _read_file(file: Path) -> dict[str, NDArray[Any]]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        if header_bytes + 8 > size:
            raise InputError(f"{file} is cut short or no safetensors file. Fetch it again.")
        try:
            header = json.loads(stream.read(header_bytes))
        except ValueError as error:
            raise InputError(f"{file} has a damaged header ({error}). Fetch it again.") from error
    header.pop("__metadata__", None)
    # Copy on write: the arrays count as writable, which torch wants, and the file stays as it is.
    data = np.memmap(file, np.uint8, "c", offset=8 + header_bytes) if size > 8 + header_bytes else None
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = np.dtype(_DTYPES.get(entry["dtype"], "V1"))
        if data is None or end > len(data) or math.prod(entry["shape"]) * dtype.itemsize != end - begin:
            raise InputError(f"{file}: tensor {name} lies beyond the end of the file. Fetch it again.")
        tensor = data[begin:end].view(np.ndarray).view(dtype).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            tensor = (tensor.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = tensor
    return tensors
