"""What runs which architecture: our own backends, or else sentence-transformers."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.checkpoint import Checkpoint
from mretrieve.encode.choose import LEAST_COSINE, LEAST_HIDDEN, Backend, Dtype, cpu_has_int8
from mretrieve.encode.pooling import Pooling
from mretrieve.encode.threads import take_share
from mretrieve.models.bert import is_bert
from mretrieve.models.config_file import is_nomic, read_nomic_config
from mretrieve.models.modules import read_head

if TYPE_CHECKING:
    from mretrieve.encode.onnx import OnnxBert

Embed = Callable[[Sequence[NDArray[np.int32]]], NDArray[np.float32]]
"""Token ids of each text to (n_texts, dim) float32, not normalised."""


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint is to us.

    `dim` is the length of its embeddings, None where only a trial tells; `onnx` says whether ONNX Runtime
    can run it here.
    """

    family: Literal["bert", "nomic", "other"]
    dim: int | None
    onnx: bool

    @property
    def ours(self) -> bool:
        """Whether our own code runs it."""
        return self.family != "other"


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """See what a checkpoint is, without reading its weights.

    Raises:
        InputError: it calls itself a NomicMoE, but its config cannot be used.
    """
    if checkpoint.pooling == "custom":
        return Architecture("other", None, onnx=False)
    if is_bert(checkpoint.config):
        return Architecture("bert", _dim(checkpoint, int(checkpoint.config["hidden_size"])), onnx=True)
    if is_nomic(checkpoint.config):
        config = read_nomic_config(checkpoint.folder)
        return Architecture("nomic", _dim(checkpoint, config.hidden_size), onnx=config.router == "softmax")
    return Architecture("other", None, onnx=False)


def _dim(checkpoint: Checkpoint, hidden: int) -> int:
    return hidden if checkpoint.head is None else int(read_head(checkpoint.head).weight.shape[0])


def load_backend(
    checkpoint: Checkpoint,
    architecture: Architecture,
    backend: Backend,
    *,
    device: str,
    dtype: Dtype,
    quick_alone: bool = False,
) -> Embed:
    """Load a model for one backend and number type.

    With `quick_alone` a text that comes alone may have other last digits than in a batch, if that is quicker.

    Raises:
        InputError: its files are damaged, or sentence-transformers cannot load it.
    """
    if backend == "torch":
        _yield_busy_cores()
    if not architecture.ours:
        from mretrieve.encode.library import LibraryModel

        return LibraryModel(checkpoint.folder, device=device, dtype=_torch_dtype(dtype)).embed
    model = _ours(checkpoint, architecture, backend, device=device, dtype=dtype, quick_alone=quick_alone)
    pooling = Pooling(checkpoint)

    def embed(batch: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        if backend == "torch":
            take_share()
        return pooling(model.hidden_states(batch), list(map(len, batch)))

    return embed


def load_short_queries(
    checkpoint: Checkpoint,
    architecture: Architecture,
    *,
    device: str,
    dtype: str,
    threads: Sequence[int] = (0,),
) -> list[Embed]:
    """Load a model for up to `QUERY_TOKENS` tokens of queries on the CPU, in eight bits.

    Args:
        checkpoint: the model.
        architecture: what it is to us.
        device: `cpu` or `cuda`.
        dtype: what the user asked for.
        threads: that a call takes, for each of the ways to call it that are wanted; 0 for as many as there
            are cores.

    Returns:
        One for each of `threads`. None where `load_backend` is better: there is a GPU, a number type was
        asked for, the CPU cannot multiply eight bits quickly, or the model is not BERT-like, is small, or is
        too far from itself in eight bits.

    Raises:
        InputError: its files are damaged.
    """
    if (device, dtype) != ("cpu", "auto") or architecture.family != "bert" or not cpu_has_int8():
        return []
    if int(checkpoint.config["hidden_size"]) < LEAST_HIDDEN:
        return []
    from mretrieve.encode.onnx import OnnxBert

    first = OnnxBert(checkpoint.folder, int8=True, n_threads=threads[0])
    if first.cosine < LEAST_COSINE:
        return []
    models = [first, *map(first.with_threads, threads[1:])]
    return [_pooled(model, Pooling(checkpoint)) for model in models]


def _pooled(model: "OnnxBert", pooling: Pooling) -> Embed:
    return lambda batch: pooling(model.hidden_states(batch), list(map(len, batch)))


def _ours(
    checkpoint: Checkpoint,
    architecture: Architecture,
    backend: Backend,
    *,
    device: str,
    dtype: Dtype,
    quick_alone: bool,
) -> Any:
    folder, int8 = checkpoint.folder, dtype == "int8"
    if architecture.family == "bert":
        if backend == "onnx":
            from mretrieve.encode.onnx import OnnxBert

            return OnnxBert(folder, int8=int8)
        from mretrieve.encode.flat import FlatBert

        return FlatBert(folder, device=device, dtype=_torch_dtype(dtype), quick_alone=quick_alone)
    if backend == "onnx":
        from mretrieve.encode.onnx_nomic import OnnxNomic

        return OnnxNomic(folder, int8=int8)
    if device == "cpu":
        from mretrieve.encode.flat_nomic import FlatNomic, runs_flat

        if runs_flat(read_nomic_config(folder)):
            return FlatNomic(folder, device=device, dtype=_torch_dtype(dtype))
    from mretrieve.encode.packed_nomic import PackedNomic

    return PackedNomic(folder, device=device, dtype=_torch_dtype(dtype))


def _torch_dtype(dtype: Dtype) -> Any:
    import torch

    return torch.bfloat16 if dtype == "bf16" else torch.float32


def _yield_busy_cores() -> None:
    """Have torch's threads sleep soon when they wait for each other, instead of spinning for long.

    With one of two cores taken by another program, encoding is 1.5 times as fast for it; on an idle
    machine nothing changes. The library reads the setting once, when torch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "1000"
