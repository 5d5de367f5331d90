"""How fast each way is by which tokens meet their experts: one expert layer, forward, and with gradients.

`python benchmarks/dispatch.py` prints medians and then the table that `mretrieve/models/dispatch.py` chooses
by; `--device cuda` measures a GPU. Strategies take turns; router and gates are not timed. `--cpu-time` counts
what one thread works instead of how long it takes, which also tells them apart on a machine that has other
work to do.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch_timing import machine, matmul_peak, medians, print_table, write_json

from mretrieve.models.dispatch import DISPATCHES, Dispatch
from mretrieve.models.experts import ExpertWeights
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routing import Routing

SIZES = ((768, 3072), (384, 1536))  # Nomic Embed v2, multilingual-e5-small
TOKENS = {"cpu": (1, 4, 16, 64, 256, 1024), "cuda": (1, 16, 64, 512, 4096, 32768)}
DTYPES = (torch.float32, torch.bfloat16)
N_EXPERTS, TOP_K = 8, 2
MOST_GATHERED = 64  # rows; the weights that are copied grow with them
CLOSE = 1.05  # times as long as the fastest is as good, where that keeps the table simple


@dataclass(frozen=True)
class Case:
    """One line of figures."""

    hidden: int
    ffn: int
    dtype: torch.dtype
    gradients: bool
    tokens: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and propose the table."""
    options = _parser().parse_args(arguments)
    device = torch.device(options.device)
    sizes = ((64, 128),) if options.tiny else SIZES
    tokens = (1, 16) if options.tiny else TOKENS[device.type]
    clock = time.perf_counter
    if options.cpu_time:
        torch.set_num_threads(1)
        clock = time.process_time
    figures = []
    for dtype, gradients, n, size in itertools.product(DTYPES, (False, True), tokens, sizes):
        case = Case(*size, dtype, gradients, n)
        figures.append((case, measure(case, device, budget=options.seconds, clock=clock)))
    side = 256 if options.tiny else 8192 if device.type == "cuda" else 2048
    peaks = {str(d)[6:]: matmul_peak(device, d, side, side, side, clock=clock) / 1e9 for d in DTYPES}
    _report(figures, peaks)
    table = propose(figures)
    print("\nTABLE:")
    for (dtype, gradients), rows in table.items():
        print(f'    ("{device.type}", {dtype}, {gradients}): {rows},')
    write_json(
        options.json,
        {
            "machine": machine(device) | {"clock": "processor time" if options.cpu_time else "time"},
            "gemm_peak_gflops": peaks,
            "milliseconds": [
                vars(case) | {"dtype": str(case.dtype)[6:]} | {"ms": times} for case, times in figures
            ],
            "table": [
                {"dtype": str(dtype)[6:], "gradients": gradients, "strategies": [name for _, name in rows]}
                | {"up_to_tokens": [None if most == math.inf else most for most, _ in rows]}
                for (dtype, gradients), rows in table.items()
            ],
        },
    )


def measure(
    case: Case, device: torch.device, *, budget: float, clock: Callable[[], float]
) -> dict[str, float]:
    """Median milliseconds of each strategy, in about `budget` seconds."""
    weights, x, routing = _layer(case, device)
    calls = {
        name: partial(_call, strategy, weights, x, routing, gradients=case.gradients)
        for name, strategy in DISPATCHES.items()
        if name != "gathered" or case.tokens * TOP_K <= MOST_GATHERED
    }
    first = medians(calls, device, repeats=1, clock=clock)
    repeats = min(50, max(3, int(budget / sum(first.values()))))
    found = medians(calls, device, repeats=repeats, clock=clock)
    return {name: 1000 * spent for name, spent in found.items()}


def _layer(case: Case, device: torch.device) -> tuple[ExpertWeights, Tensor, Routing]:
    config = NomicConfig(
        vocab_size=1,
        hidden_size=case.hidden,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=case.ffn,
        moe_layers=(0,),
        num_experts=N_EXPERTS,
        moe_top_k=TOP_K,
    )
    torch.manual_seed(1)
    weights = ExpertWeights(config)
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.normal_(std=0.02)
    x = torch.randn(case.tokens, case.hidden).to(device, case.dtype).requires_grad_(case.gradients)
    logits = torch.randn(case.tokens, N_EXPERTS, device=device)
    gates, experts = logits.softmax(dim=-1).topk(TOP_K, dim=-1)
    routing = Routing(logits, experts, gates.requires_grad_(case.gradients))
    return weights.to(device, case.dtype).requires_grad_(case.gradients), x, routing


def _call(
    strategy: Dispatch, weights: ExpertWeights, x: Tensor, routing: Routing, *, gradients: bool
) -> None:
    if not gradients:
        with torch.inference_mode():
            strategy(x, weights, routing)
        return
    for tensor in (x, routing.gates, *weights.parameters()):
        tensor.grad = None
    strategy(x, weights, routing).sum().backward()  # type: ignore[no-untyped-call]


Figures = Sequence[tuple[Case, dict[str, float]]]


def propose(figures: Figures) -> dict[tuple[torch.dtype, bool], tuple[tuple[float, str], ...]]:
    """For each dtype, with gradients and without: up to so many tokens, this strategy.

    The best has the least time, relative to the fastest of each case, over all sizes. One that is as good
    and was chosen for fewer tokens stays.
    """
    proposal = {}
    for dtype, gradients in itertools.product(DTYPES, (False, True)):
        rows: list[tuple[float, str]] = []
        mine = [figure for figure in figures if (figure[0].dtype, figure[0].gradients) == (dtype, gradients)]
        for tokens in sorted({case.tokens for case, _ in mine}):
            cost = _relative([times for case, times in mine if case.tokens == tokens])
            best = min(cost, key=cost.__getitem__)
            if rows and cost.get(rows[-1][1], math.inf) <= CLOSE * cost[best]:
                best = rows[-1][1]
            if rows and rows[-1][1] == best:
                rows.pop()
            rows.append((tokens, best))
        rows[-1] = (math.inf, rows[-1][1])
        proposal[dtype, gradients] = tuple(rows)
    return proposal


def _relative(cases: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each strategy's mean time over that of the fastest."""
    return {name: sum(times[name] / min(times.values()) for times in cases) / len(cases) for name in cases[0]}


def _report(figures: Figures, peaks: dict[str, float]) -> None:
    rows = []
    for case, times in figures:
        spent = [f"{times[name]:.2f}" if name in times else "" for name in DISPATCHES]
        mode = "with gradients" if case.gradients else "forward"
        flops = 4 * case.tokens * TOP_K * case.hidden * case.ffn * (3 if case.gradients else 1)
        reached = flops / min(times.values()) / 1e6
        dtype = str(case.dtype)[6:]
        rows.append([dtype, mode, case.hidden, case.tokens, *spent, f"{reached:.0f} / {peaks[dtype]:.0f}"])
    print_table(
        ["dtype", "mode", "hidden", "tokens", *(f"{name} ms" for name in DISPATCHES), "GFLOP/s / peak"], rows
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each line of the table")
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser


if __name__ == "__main__":
    main()
