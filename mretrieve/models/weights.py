"""Read checkpoints: settings, and safetensors by memory map, so that a tensor costs nothing until touched."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I8": "i1",
    "U8": "u1",
}


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


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies, so that it can be mapped when it is needed and let go when it is not.

    Each is a mapping of its own: its pages leave the memory with the array, not with the whole file's.
    `kind` is the safetensors name of its number type, such as `F32` or `BF16`.
    """

    file: Path
    kind: str
    shape: tuple[int, ...]
    offset: int

    def map(self) -> NDArray[Any]:
        """The tensor by memory map; bfloat16, which numpy does not have, as uint16."""
        dtype = np.dtype(_DTYPES[self.kind])
        if not math.prod(self.shape):
            return np.empty(self.shape, dtype)
        # Copy on write: the arrays count as writable, which torch wants, and the file stays as it is.
        return np.memmap(self.file, dtype, "c", self.offset, self.shape).view(np.ndarray)

    def array(self) -> NDArray[Any]:
        """The tensor by memory map; bfloat16 widened to float32, in memory."""
        mapped = self.map()
        return (mapped.astype(np.uint32) << 16).view(np.float32) if self.kind == "BF16" else mapped

    def tensor(self) -> "Tensor":
        """The tensor by memory map, in the number type of the file."""
        import torch

        mapped = torch.from_numpy(self.map())
        return mapped.view(torch.bfloat16) if self.kind == "BF16" else mapped


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """What a checkpoint holds, by name; nothing is read but the headers.

    Raises:
        InputError: a file is missing or damaged.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        tensors |= _read_header(file)
    return tensors


def read_weights(folder: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a checkpoint, memory-mapped; bfloat16 ones are widened to float32.

    Raises:
        InputError: a file is missing or damaged.
    """
    return {name: stored.array() for name, stored in stored_tensors(folder).items()}


def check_tensors(
    folder: Path, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise InputError, naming them, unless a checkpoint has exactly the tensors that its config stands for.

    Args:
        folder: the checkpoint, for the message.
        found: shapes by name in its files.
        wanted: shapes by name after its config.
    """
    problems = []
    if missing := [name for name in wanted if name not in found]:
        problems.append(f"lacks {_listed(missing)}")
    if extra := [name for name in found if name not in wanted]:
        problems.append(f"has {_listed(extra)} that its config does not know")
    common = [name for name in wanted if name in found]
    if wrong := [name for name in common if found[name] != wanted[name]]:
        details = [f"{name} {found[name]} instead of {wanted[name]}" for name in wrong]
        problems.append(f"has the wrong shape in {_listed(details)}")
    if problems:
        raise InputError(f"The checkpoint {folder} {', and '.join(problems)}.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} tensor(s): {', '.join(names[:5])}{more}"


def _read_header(file: Path) -> dict[str, StoredTensor]:
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
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        shape = tuple(entry["shape"])
        if entry["dtype"] not in _DTYPES:
            raise InputError(
                f"{file}: tensor {name} has the number type {entry['dtype']}; only {', '.join(_DTYPES)} are "
                "supported. Save it in one of them."
            )
        if end > size or math.prod(shape) * np.dtype(_DTYPES[entry["dtype"]]).itemsize != end - begin:
            raise InputError(f"{file}: tensor {name} lies beyond the end of the file. Fetch it again.")
        tensors[name] = StoredTensor(file, entry["dtype"], shape, begin)
    return tensors
