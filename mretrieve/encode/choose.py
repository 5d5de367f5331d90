"""The one place that says which backend and number type encodes a batch.

`python benchmarks/encode.py` prints the speeds behind it: for a few texts ONNX Runtime wins, because torch
takes seconds to import and load; for many, torch with packed bfloat16 weights wins. A short query is quickest
in eight bits, which it bears better than a passage does: what was found stays the same (`python
benchmarks/encode.py --queries`), where a passage's vector is kept and compared for long.
"""

import logging
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from mretrieve.errors import InputError

Dtype = Literal["fp32", "bf16", "int8"]
Backend = Literal["onnx", "torch"]

log = logging.getLogger(__name__)

BULK_TOKENS = 12_000
"""From this many tokens on, loading torch pays for itself on the CPU; an estimate, not a measured optimum."""

QUERY_TOKENS = 256
"""Up to this many tokens queries are embedded in eight bits; more make bfloat16 as fast."""

LEAST_COSINE, LEAST_HIDDEN = 0.999, 128
"""Of eight bits to float32, and numbers per token: models below either are left alone."""


def choose_backend(
    n_tokens: int, *, device: str, dtype: str, ours: bool, onnx: bool
) -> tuple[Backend, Dtype]:
    """Backend and number type for one call of the encoder.

    Args:
        n_tokens: tokens of all texts of the call.
        device: `cpu` or `cuda`.
        dtype: what the user asked for: `auto`, `fp32`, `bf16` or `int8`.
        ours: whether our own code runs the architecture; sentence-transformers runs all others.
        onnx: whether ONNX Runtime can run it.

    Raises:
        InputError: the number type is unknown or not available there.
    """
    if dtype not in ("auto", *get_args(Dtype)):
        raise InputError(f"Unknown number type '{dtype}'. Choose from: auto, {', '.join(get_args(Dtype))}.")
    if dtype == "int8":
        if device != "cpu" or not onnx:
            raise InputError(
                "int8 works on the CPU with BERT-like models and with NomicMoE's softmax router. Choose bf16 "
                "or fp32."
            )
        return "onnx", "int8"
    if device == "cpu" and onnx and dtype != "bf16" and n_tokens < BULK_TOKENS:
        return "onnx", "fp32"
    if dtype == "auto":
        # Of models that we do not run ourselves nobody knows what bfloat16 does to their pooling.
        dtype = "bf16" if ours and (device != "cpu" or cpu_has_bf16()) else "fp32"
    return "torch", "bf16" if dtype == "bf16" else "fp32"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    return bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())


def cpu_has_int8() -> bool:
    """Whether this CPU multiplies eight-bit numbers four at a time (VNNI)."""
    return bool({"avx512_vnni", "avx_vnni"} & _cpu_flags())


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").split())


def find_device(device: str) -> str:
    """`auto` to `cuda` where torch sees a GPU, else `cpu`.

    Where `cuda` was asked for and there is none, one line says so. Looking costs the import of torch, so a
    machine without NVIDIA's driver is not asked.

    Raises:
        InputError: the name is unknown.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"Unknown device '{device}'. Choose from: auto, cpu, cuda.")
    if device == "cpu" or (device == "auto" and not Path("/proc/driver/nvidia").exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        log.warning("torch %s sees no GPU: models run on the CPU.", torch.__version__)
    return "cpu"
