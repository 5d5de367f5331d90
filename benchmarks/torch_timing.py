"""Timing of PyTorch calls on a CPU or a CUDA device, for the benchmarks of models.

Imports nothing but torch, so that these scripts run wherever the models do.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch


def seconds(
    call: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """One call: by the clock on a CPU; on a GPU from an idle device until its last kernel is done."""
    if device.type != "cuda":
        start = clock()
        call()
        return clock() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    first.record()
    call()
    last.record()
    torch.cuda.synchronize(device)
    return float(first.elapsed_time(last)) / 1000


def medians(
    calls: Mapping[str, Callable[[], object]],
    device: torch.device,
    *,
    repeats: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that all of them see the same machine."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + repeats):
        for name, call in calls.items():
            spent = seconds(call, device, clock)
            if turn >= warm_up:
                found[name].append(spent)
    return {name: statistics.median(times) for name, times in found.items()}


def matmul_peak(
    device: torch.device,
    dtype: torch.dtype,
    m: int,
    k: int,
    n: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """FLOP/s of a product of random (m, k) and (k, n): the best of some runs, as a ceiling should be."""
    a, b = (torch.randn(*sides, device=device).to(dtype) for sides in ((m, k), (k, n)))
    for _ in range(3):
        a @ b
    return 2 * m * k * n / min(seconds(lambda: a @ b, device, clock) for _ in range(20))


def machine(device: torch.device) -> dict[str, object]:
    """What the figures depend on."""
    found: dict[str, object] = {"device": device.type, "torch": torch.__version__}
    if device.type == "cuda":
        found["name"] = torch.cuda.get_device_name(device)
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability(device)))
        return found
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return found | {"name": platform.machine(), "cores": len(cores), "threads": torch.get_num_threads()}


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def write_json(path: Path | None, figures: object) -> None:
    """Write figures where they were asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
