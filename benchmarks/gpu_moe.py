"""NomicMoE on one GPU: tokens per second, and how much of the GPU's matrix products that is.

`python benchmarks/gpu_moe.py --json FILE` takes under 5 minutes on one H200 and needs nothing but torch and
transformers. Nomic Embed v2's shape with random weights, bfloat16, batches of 32,768 tokens: texts of 512
tokens side by side, and texts of realistic lengths packed. It is compared with the same weights through
transformers' grouped_mm experts, and with a dense encoder whose feed-forward networks are as wide as the
chosen experts together; forward, and forward with gradients; as it is, compiled layer by layer, and
replayed as a CUDA graph. `--device cpu --tiny` tries the script.
"""

import argparse
import itertools
import json
import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch._dynamo
from moe_variants import with_dense_layers, with_transformers_experts
from torch import Tensor
from torch._dynamo.utils import counters
from torch_timing import machine, matmul_peak, medians, print_table, write_json

from mretrieve.models.attention import PackedLayout
from mretrieve.models.dispatch import DISPATCHES, dispatch_auto
from mretrieve.models.experts import Experts
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.nomic_moe import NomicMoEModel, NomicMoEOutput

V2 = NomicConfig(
    vocab_size=250048,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    moe_layers=tuple(range(1, 12, 2)),
    num_experts=8,
    moe_top_k=2,
    router_aux_loss_coef=0.01,
)
TINY = replace(
    V2,
    vocab_size=500,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    moe_layers=(1,),
)
MODELS = {
    "moe": lambda model: model,
    "transformers": with_transformers_experts,
    "dense": with_dense_layers,
}
MODES = ("eager", "compiled", "graph")
Call = Callable[[], object]


@dataclass(frozen=True)
class Workload:
    """What one call computes: `lengths` packed, or side by side where all are equal."""

    name: str
    lengths: Sequence[int]
    packed: bool
    gradients: bool

    @property
    def tokens(self) -> int:
        """In one call."""
        return sum(self.lengths)

    def flops(self, config: NomicConfig) -> int:
        """Of the matrix products that one token's way needs: chosen experts only, nothing twice."""
        hidden, ffn = config.hidden_size, config.intermediate_size
        moe = len(config.moe_layers)
        weights = config.num_hidden_layers * 4 * hidden**2
        weights += 2 * hidden * ffn * (config.num_hidden_layers - moe + moe * config.moe_top_k)
        attention = sum(length**2 for length in self.lengths) * 4 * hidden * config.num_hidden_layers
        return (2 * weights * self.tokens + attention) * (3 if self.gradients else 1)


class Bench:
    """The three models on a device, and their figures."""

    def __init__(self, config: NomicConfig, device: torch.device, *, tiny: bool, seconds: float) -> None:
        self.config, self.device, self.tiny = config, device, tiny
        self.deadline = time.monotonic() + seconds
        torch.manual_seed(1)
        with device:
            model = NomicMoEModel(NomicMoEConfig(**config.to_dict()))
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        self.models: dict[str, NomicMoEModel] = {}
        self.rows: list[dict[str, Any]] = []
        for name, build in MODELS.items():
            try:
                self.models[name] = build(model)
            except ImportError as error:  # transformers before 5.0
                self.rows.append({"model": name, "workload": "all", "mode": "all", "error": str(error)})

    def run(self, workload: Workload, mode: str) -> None:
        """Measure all models, taking turns; what fails is reported and stops nothing else."""
        if time.monotonic() > self.deadline:
            self.rows.append({"workload": workload.name, "mode": mode, "error": "out of time"})
            return
        calls, memory = {}, {}
        for name, model in self.models.items():
            try:
                call = self._call(model, workload, mode)
                memory[name] = (
                    None if mode == "graph" else self._memory(call, model)
                )  # a replay allocates nothing
                calls[name] = call
            except Exception as error:  # an unattended run must go on
                self._fail(error, workload, mode, name)
        try:
            times = medians(calls, self.device, repeats=2 if self.tiny else 15, warm_up=2)
        except Exception as error:
            self._fail(error, workload, mode, "all")
            return
        for name, spent in times.items():
            self.rows.append(
                {
                    "model": name,
                    "workload": workload.name,
                    "mode": mode,
                    "milliseconds": 1000 * spent,
                    "tokens_per_second": workload.tokens / spent,
                    "tflops": workload.flops(self.config) / spent / 1e12,
                    "memory_gib": memory[name],
                }
            )

    def _fail(self, error: Exception, workload: Workload, mode: str, model: str) -> None:
        message = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        self.rows.append({"model": model, "workload": workload.name, "mode": mode, "error": message})

    def _call(self, model: NomicMoEModel, workload: Workload, mode: str) -> Call:
        compiled = mode != "eager"
        for layer in model.encoder.layers:
            layer._compiled_call_impl = None  # what an earlier mode left
            if compiled:
                layer.compile(dynamic=False, backend="eager" if self.tiny else "inductor")
        call = step(model, workload, self.device)
        for _ in range(3):
            call()
        return captured(call, model) if mode == "graph" else call

    def _memory(self, call: Call, model: NomicMoEModel) -> float | None:
        """GiB that a call needs beyond the weights, gradients included; None on a CPU."""
        if self.device.type != "cuda":
            return None
        model.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**30


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = _parser().parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "torch sees no CUDA device: run this where there is one, or try it with --device cpu --tiny.",
            file=sys.stderr,
        )
        return 2
    device, tiny = torch.device(options.device), options.tiny
    started = time.monotonic()
    peaks = _peaks(device, tiny=tiny)
    bench = Bench(TINY if tiny else V2, device, tiny=tiny, seconds=60 * options.minutes)
    agreement = _agreement(bench)
    modes = MODES if device.type == "cuda" else MODES[:2]
    counters["graph_break"].clear()
    # Each model, workload and kind of layer is a graph of its own.
    with torch._dynamo.config.patch(recompile_limit=64):
        for mode, workload in itertools.product(modes, workloads(tiny=tiny)):
            bench.run(workload, mode)
            print(f"{mode}, {workload.name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    report(bench.rows, peaks)
    figures = {
        "machine": machine(device),
        "peak_tflops": peaks,
        "relative_difference": agreement,
        "rows": bench.rows,
        "graph_breaks": dict(counters["graph_break"]),
        "summary": summary(bench.rows, peaks["square"]),
        "seconds": time.monotonic() - started,
    }
    print(json.dumps(figures["summary"], indent=1))
    write_json(options.json, figures)
    return 0 if any("milliseconds" in row for row in bench.rows) else 1


def workloads(*, tiny: bool) -> list[Workload]:
    """Texts of 512 tokens, and lognormal lengths of mean 100; alone, and with gradients."""
    tokens, longest = (160, 32) if tiny else (32768, 512)
    mean = longest / 5
    drawn: list[int] = []
    rng = random.Random(1)
    while sum(drawn) < tokens:
        length = round(rng.lognormvariate(math.log(mean) - 0.18, 0.6))  # 0.18: half of the variance
        drawn.append(min(max(length, 4), longest, tokens - sum(drawn)))
    full = [longest] * (tokens // longest)
    return [
        Workload(f"{name}{', with gradients' if gradients else ''}", lengths, packed, gradients)
        for gradients in (False, True)
        for name, lengths, packed in ((f"{longest} tokens", full, False), ("packed", drawn, True))
    ]


def step(model: NomicMoEModel, workload: Workload, device: torch.device) -> Call:
    """One forward pass, or one with all gradients; everything that a batch needs is on the device before."""
    torch.manual_seed(2)
    ids = torch.randint(4, model.sizes.vocab_size, (workload.tokens,), device=device)
    if not workload.packed:
        ids = ids.view(len(workload.lengths), -1)
    model.train(workload.gradients)
    encode = packed_encoder(model, workload.lengths, device) if workload.packed else model

    def forward() -> object:
        """One pass, as inference does it."""
        with torch.no_grad():
            return encode(ids)

    def forward_and_gradients() -> object:
        """One pass there and back, as training does it."""
        model.zero_grad(set_to_none=True)
        output = cast(NomicMoEOutput, encode(ids))
        assert output.last_hidden_state is not None
        loss = output.last_hidden_state.float().square().mean()
        if output.auxiliary_loss is not None:
            loss = loss + output.auxiliary_loss
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return forward_and_gradients if workload.gradients else forward


def packed_encoder(
    model: NomicMoEModel, lengths: Sequence[int], device: torch.device
) -> Callable[[Tensor], NomicMoEOutput]:
    """`forward_packed` without the copies from the host, which a CUDA graph cannot hold."""
    layout = PackedLayout(lengths, device=device)
    batch = model._batch(layout, None)

    def encode(ids: Tensor) -> NomicMoEOutput:
        return model._encode(model.embeddings(ids, None, layout.positions), batch, mask=None, keep=False)

    return encode


def captured(call: Call, model: NomicMoEModel) -> Call:
    """A call as a CUDA graph, as torch's documentation says for whole networks."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    model.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def _peaks(device: torch.device, *, tiny: bool) -> dict[str, float]:
    """TFLOP/s of one large matrix product, and of a feed-forward network's first."""
    shapes = {"square": (8192, 8192, 8192), "ffn": (65536, 768, 3072)}
    if tiny:
        shapes = {"square": (256, 256, 256), "ffn": (512, 64, 128)}
    return {name: matmul_peak(device, torch.bfloat16, *shape) / 1e12 for name, shape in shapes.items()}


def _agreement(bench: Bench) -> dict[str, float]:
    """How far other ways are from ours on one batch, as a share of the norm; bfloat16 flips near-ties."""
    ids = torch.randint(4, bench.config.vocab_size, (4, 32), device=bench.device)
    for model in bench.models.values():
        model.train(False)
    ours, others = bench.models["moe"], {}
    layers = [module for module in ours.modules() if isinstance(module, Experts)]
    with torch.no_grad():
        wanted = ours(ids).last_hidden_state.float()
        if "transformers" in bench.models:
            others["transformers"] = bench.models["transformers"](ids).last_hidden_state
        for way, dispatch in DISPATCHES.items():
            for layer in layers:
                layer.dispatch = dispatch
            others[way] = ours(ids).last_hidden_state
    for layer in layers:
        layer.dispatch = dispatch_auto
    return {name: ((x.float() - wanted).norm() / wanted.norm()).item() for name, x in others.items()}


Rows = Sequence[Mapping[str, Any]]


def summary(rows: Rows, peak: float) -> dict[str, dict[str, Any]]:
    """For each workload: our fastest mode, and how its time compares with the others' fastest."""
    found = {}
    for name in dict.fromkeys(row["workload"] for row in rows):
        fastest = {
            model: min(measured, key=lambda row: row["milliseconds"])
            for model in MODELS
            if (
                measured := [
                    row for row in _measured(rows) if (row["workload"], row["model"]) == (name, model)
                ]
            )
        }
        if "moe" in fastest:
            ours = fastest["moe"]
            found[name] = {"mode": ours["mode"], "tokens_per_second": round(ours["tokens_per_second"])}
            found[name]["utilisation"] = round(ours["tflops"] / peak, 4)
            for other in fastest.keys() - {"moe"}:
                ratio = ours["milliseconds"] / fastest[other]["milliseconds"]
                found[name][f"times_the_time_of_{other}"] = round(ratio, 4)
    return found


def report(rows: Rows, peaks: Mapping[str, float]) -> None:
    """Print all figures."""
    print(f"bfloat16 peak: {peaks['square']:.1f} TFLOP/s; as a feed-forward network: {peaks['ffn']:.1f}")
    table = []
    for row in _measured(rows):
        memory = "" if row["memory_gib"] is None else f"{row['memory_gib']:.2f}"
        used = f"{100 * row['tflops'] / peaks['square']:.1f}%"
        cells = [f"{row['milliseconds']:.2f}", f"{row['tokens_per_second']:,.0f}", used, memory]
        table.append([row["workload"], row["mode"], row["model"], *cells])
    print_table(["workload", "mode", "model", "ms", "tokens/s", "of the peak", "GiB"], table)
    for row in rows:
        if "error" in row:
            print(f"{row['workload']}, {row['mode']}, {row.get('model', 'all')}: {row['error']}")


def _measured(rows: Rows) -> list[Mapping[str, Any]]:
    return [row for row in rows if "milliseconds" in row]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--minutes", type=float, default=4.0, help="start nothing new after so long")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
