"""One sparse layer against a dense feed-forward network of equal active size, on the CPU.

`python benchmarks/moe_layer.py` times router, dispatch, experts and combination over 32 x 128 tokens, hidden
768 and 384, float32 and bfloat16, against a dense network whose inner width is `top_k` times an expert's,
on equally packed weights. Beside it the same layer as transformers computes it (`grouped_mm`), and in a loop
over experts on plain weights. All take turns; medians.
"""

import torch
from common import arguments, gemm_peak, print_table, write_json
from moe_variants import TransformersExperts
from torch import Tensor
from torch_timing import machine, medians

from mretrieve.memory import keep_freed_buffers
from mretrieve.models.dispatch import dispatch_loop
from mretrieve.models.moe import MoEMLP
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.packed import PackedExperts, linear, pack_experts

SIZES = ((768, 3072), (384, 1536))  # Nomic Embed v2, multilingual-e5-small
DTYPES = (torch.float32, torch.bfloat16)
LIMITS = {torch.float32: 1.15, torch.bfloat16: 1.3}
N_EXPERTS, TOP_K = 8, 2
TOKENS = 32 * 128
DENSE = "dense, packed"
OURS = "experts, packed"


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    keep_freed_buffers()
    rows, figures = [], []
    peaks = {dtype: gemm_peak(str(dtype)[6:]) for dtype in DTYPES}
    for hidden, ffn in SIZES:
        for dtype in DTYPES:
            times = measure(hidden, ffn, dtype, runs=options.runs)
            flops = 4 * TOKENS * TOP_K * hidden * ffn
            for name, seconds in times.items():
                reached = flops / seconds / 1e9
                row = [hidden, str(dtype)[6:], name, f"{seconds * 1e3:.1f}", f"{seconds / times[DENSE]:.2f}"]
                limit = f"{LIMITS[dtype]:.2f}" if name == OURS else ""
                rows.append([*row, limit, f"{reached:.0f}", f"{reached / peaks[dtype]:.0%}"])
            figures.append({"hidden": hidden, "ffn": ffn, "dtype": str(dtype)[6:], "seconds": times})
    header = ["hidden", "dtype", "layer", "ms", "times dense", "limit", "GFLOP/s", "of the peak"]
    print_table(header, rows)
    print()
    for dtype, peak in peaks.items():
        print(f"{str(dtype)[6:]} matrix peak: {peak:.0f} GFLOP/s.")
    cpu = machine(torch.device("cpu"))
    stored = {str(dtype)[6:]: peak for dtype, peak in peaks.items()}
    write_json(options.json, {"machine": cpu, "peak_gflops": stored, "tokens": TOKENS, "figures": figures})


@torch.inference_mode()
def measure(hidden: int, ffn: int, dtype: torch.dtype, *, runs: int) -> dict[str, float]:
    """Median seconds of each way."""
    layer = sparse_layer(hidden, ffn, dtype)
    # Tokens that have something in common, so that experts get unequal loads, as in trained models.
    x = (torch.randn(TOKENS, hidden) + torch.randn(hidden) / 2).to(dtype)
    up = linear(normal(TOP_K * ffn, hidden).to(dtype), normal(TOP_K * ffn).to(dtype), act="gelu")
    down = linear(normal(hidden, TOP_K * ffn).to(dtype), normal(hidden).to(dtype))
    experts = layer.experts
    parts = pack_experts(
        experts.mlp.w1, experts.mlp.w2, experts.mlp.b1, n_experts=N_EXPERTS, act="gelu", dtype=dtype
    )
    packed = PackedExperts(layer.router, parts, experts.bias)
    transformers = TransformersExperts(experts)

    def grouped() -> Tensor:
        summed: Tensor = x + transformers(x, layer.router(x))
        return summed

    def loop() -> Tensor:
        return x + dispatch_loop(x, experts.mlp, layer.router(x)) + experts.bias

    wanted, scale = loop().float(), 1.0 if dtype == torch.float32 else 1e3
    for found in (packed(x), grouped()):
        torch.testing.assert_close(found.float(), wanted, rtol=1e-5 * scale, atol=2e-5 * scale)
    calls = {
        DENSE: lambda: down(up(x), x),
        OURS: lambda: packed(x),
        "experts, loop on plain weights": loop,
        "experts, transformers grouped_mm": grouped,
    }
    return medians(calls, torch.device("cpu"), repeats=runs)


def sparse_layer(hidden: int, ffn: int, dtype: torch.dtype) -> MoEMLP:
    """Random weights, as those of fresh models, the router's wide enough to be decided."""
    config = NomicConfig(
        vocab_size=1,
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=12,
        intermediate_size=ffn,
        moe_layers=(0,),
        num_experts=N_EXPERTS,
        moe_top_k=TOP_K,
    )
    layer = MoEMLP(config).eval()
    layer.experts.mlp.w1.copy_(normal(*layer.experts.mlp.w1.shape))
    layer.experts.mlp.w2.copy_(normal(*layer.experts.mlp.w2.shape))
    layer.experts.bias.copy_(normal(hidden))
    layer.router.reset(0.05)
    layer.experts.to(dtype)
    return layer


def normal(*shape: int) -> Tensor:
    """Normal values, as wide as those of fresh models."""
    return torch.randn(*shape) * 0.02


if __name__ == "__main__":
    main()
