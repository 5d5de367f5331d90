"""FAISS on GPUs: build and search flat, IVF, IVF-PQ and CAGRA indexes; recall@10 and queries per second.

`python benchmarks/gpu.py --json FILE` runs unattended: before each index it looks whether the time left
(`--seconds`, 240) is enough for one that takes twice as long as the longest so far, and names those left out.
Vectors are random ones around random centres. Without a GPU it says so, writes that, and ends with status 2;
`--device cpu --n 20000` tries the script.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import arguments, print_table, write_json
from numpy.typing import NDArray

from mretrieve.index.factory import make_index
from mretrieve.index.faiss import load_faiss
from mretrieve.index.faiss_gpu import to_gpus, train_on_gpus

Vectors = NDArray[np.float32]
Figures = dict[str, object]

TOP_K = 10
N_QUERIES = 10_000
PROBES = (8, 32, 128)
_SEED = 13
_CENTRES = 1024
_ROWS = 100_000  # made at once


def make_vectors(n: int, dim: int, *, seed: int) -> Vectors:
    """(n, dim) float32 unit vectors around centres that are the same for every seed."""
    centres = np.random.default_rng(_SEED).standard_normal((_CENTRES, dim), dtype=np.float32)
    rng = np.random.default_rng(seed)
    vectors = np.empty((n, dim), np.float32)
    for start in range(0, n, _ROWS):
        part = vectors[start : start + _ROWS]
        part[:] = centres[rng.integers(_CENTRES, size=len(part))]
        part += 0.7 * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def lists_for(n: int) -> int:
    """A power of two near 4 sqrt(n)."""
    return int(2 ** round(np.log2(4 * n**0.5)))


def build(faiss: Any, factory: str, vectors: Vectors, device: str) -> tuple[Any, dict[str, float]]:
    """An index on the GPUs, and what each step took in seconds."""
    index = make_index(faiss, factory, vectors.shape[1])
    seconds = {}
    start = time.perf_counter()
    train_on_gpus(faiss, index, device="cpu" if device == "cpu" else "cuda")
    index.train(vectors[: max(65_536, 50 * lists_for(len(vectors)))])
    seconds["train"] = time.perf_counter() - start
    start = time.perf_counter()
    index.add(vectors)
    seconds["add"] = time.perf_counter() - start
    start = time.perf_counter()
    moved = to_gpus(faiss, index, device="cpu" if device == "cpu" else "cuda")
    seconds["to_gpus"] = time.perf_counter() - start
    return moved, seconds


def build_cagra(faiss: Any, vectors: Vectors) -> tuple[Any, dict[str, float]]:
    """A CAGRA graph on the first GPU.

    Raises:
        AttributeError: the wheel has no cuVS.
    """
    start = time.perf_counter()
    config = faiss.GpuIndexCagraConfig()
    resources = faiss.StandardGpuResources()
    index = faiss.GpuIndexCagra(resources, vectors.shape[1], faiss.METRIC_INNER_PRODUCT, config)
    index.referenced_objects = [resources]
    index.train(vectors)
    return index, {"train": time.perf_counter() - start}


def search(index: Any, queries: Vectors, exact: NDArray[np.int64]) -> dict[str, float]:
    """Recall@10 and queries per second, the second time, since the first makes room on the GPU."""
    index.search(queries[:256], TOP_K)
    start = time.perf_counter()
    _, rows = index.search(queries, TOP_K)
    seconds = time.perf_counter() - start
    recall = float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, rows, strict=True)]))
    return {"recall": recall, "queries_per_second": len(queries) / seconds}


def settings(faiss: Any, index: Any, factory: str, device: str) -> list[tuple[str, Callable[[], None]]]:
    """What to search with: numbers of lists to probe, where there are lists."""
    if "IVF" not in factory:
        return [("", lambda: None)]
    space = faiss.ParameterSpace() if device == "cpu" else faiss.GpuParameterSpace()

    def setter(n_probe: int) -> Callable[[], None]:
        return lambda: space.set_index_parameter(index, "nprobe", n_probe)

    return [(f"nprobe={n_probe}", setter(n_probe)) for n_probe in PROBES]


def run(faiss: Any, vectors: Vectors, queries: Vectors, *, device: str, deadline: float) -> Figures:
    """All indexes that fit into the time; one that fails is named with its reason, and the rest go on."""
    n_lists = lists_for(len(vectors))
    code = max(m for m in range(1, vectors.shape[1] // 8 + 1) if vectors.shape[1] % m == 0)
    factories = ["Flat", f"IVF{n_lists},Flat", f"IVF{n_lists},SQ8", f"IVF{n_lists},PQ{code}", "CAGRA"]
    found: list[Figures] = []
    exact: NDArray[np.int64] | None = None
    longest = 0.0
    for factory in factories:
        if time.monotonic() + 2 * longest > deadline:
            found.append({"index": factory, "left_out": "no time"})
            continue
        start = time.monotonic()
        try:
            if factory == "CAGRA":
                index, seconds = build_cagra(faiss, vectors)
            else:
                index, seconds = build(faiss, factory, vectors, device)
            if exact is None:  # the flat index comes first
                _, exact = index.search(queries, TOP_K)
            for parameters, apply in settings(faiss, index, factory, device):
                apply()
                measured = search(index, queries, exact)
                found.append({"index": factory, "parameters": parameters, "seconds": seconds, **measured})
        except (RuntimeError, AttributeError, MemoryError) as error:
            found.append({"index": factory, "left_out": str(error).strip()[-200:]})
            if exact is None:
                break
        index = None
        longest = max(longest, time.monotonic() - start)
        print(json.dumps(found[-1]), file=sys.stderr)
    return {"found": found}


def main() -> int:
    """Measure, print a table, write the figures."""
    parser = arguments(__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--n", type=int, default=2_000_000, help="vectors")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=N_QUERIES)
    parser.add_argument("--seconds", type=float, default=240, help="after which nothing new is begun")
    chosen = parser.parse_args()
    deadline = time.monotonic() + chosen.seconds
    faiss = load_faiss()
    n_gpus = getattr(faiss, "get_num_gpus", int)()
    figures: Figures = {"faiss": faiss.__version__, "compiled": faiss.get_compile_options(), "gpus": n_gpus}
    figures |= {"device": chosen.device, "vectors": chosen.n, "dim": chosen.dim, "queries": chosen.queries}
    if chosen.device == "cuda" and not n_gpus:
        print(f"FAISS {faiss.__version__} sees no GPU: nothing was measured.", file=sys.stderr)
        write_json(chosen.json, figures | {"found": []})
        return 2
    vectors, queries = (
        make_vectors(chosen.n, chosen.dim, seed=1),
        make_vectors(chosen.queries, chosen.dim, seed=2),
    )
    figures |= run(faiss, vectors, queries, device=chosen.device, deadline=deadline)
    write_json(chosen.json, figures)
    rows = [
        [one["index"], one.get("parameters", one.get("left_out", "")), one.get("recall", "")]
        + [f"{rate:,.0f}" if isinstance(rate := one.get("queries_per_second"), float) else ""]
        for one in figures["found"]  # type: ignore[attr-defined]
    ]
    print_table(["index", "parameters", "recall@10", "queries/s"], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
