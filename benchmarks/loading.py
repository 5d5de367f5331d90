"""Memory while a checkpoint is loaded: 1.9 GB of float32 weights with the shape of Nomic Embed v2.

`python benchmarks/loading.py` loads it in a fresh process for each way and prints how far the resident memory
(VmHWM: anonymous pages and pages mapped from files, both) rose above what it was after the imports, as
multiples of the file's size: while loading, and until after a first batch of 512 tokens, by which time all
layers have been read. Needs Linux.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, gemm_peak, print_table, write_json

LIMIT = 1.2
WAYS = ("model classes", "flat")
DTYPES = ("float32", "bfloat16")


def main() -> None:
    """Print the table, or be one of the processes that it is about."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, help="a checkpoint of this shape, if there is one already")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "DTYPE"), help="load in this process")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.folder, *options.measure)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "model.safetensors").is_file():
            from nomic_shape import write_checkpoint

            write_checkpoint(folder)
        figures = [_in_process(folder, way, dtype) for way in WAYS for dtype in DTYPES]
        size = (folder / "model.safetensors").stat().st_size
    rows = []
    for one in figures:
        factor = one["loading"] / size
        rows.append(
            [one["way"], one["dtype"], f"{factor:.2f}", f"{LIMIT:.2f}", f"{one['anonymous'] / size:.2f}"]
            + [f"{one['first_batch'] / size:.2f}", f"{one['seconds']:.1f}"]
        )
    columns = ["peak while loading", "limit", "of it anonymous after", "peak after a batch", "seconds"]
    print_table(["way", "dtype", *columns], rows)
    peak = gemm_peak("bfloat16")
    print(f"\nMultiples of the file's {size / 1e9:.2f} GB. bfloat16 peak {peak:.0f} GFLOP/s.")
    write_json(options.json, {"file_bytes": size, "figures": figures})


def _in_process(folder: Path, way: str, dtype: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--folder", str(folder), "--measure", way, dtype]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(folder: Path, way: str, dtype: str) -> dict[str, object]:
    """Load one way, run a batch, and look at this process's memory."""
    import numpy as np
    import torch

    from mretrieve.encode.flat_nomic import FlatNomic
    from mretrieve.encode.packed_nomic import PackedNomic

    load = FlatNomic if way == "flat" else PackedNomic
    torch.ones(8, 8) @ torch.ones(8, 8)  # the libraries' own buffers
    before = memory()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts from here
    start = time.perf_counter()
    model = load(folder, dtype=getattr(torch, dtype))
    seconds = time.perf_counter() - start
    loaded = memory()
    ids = np.random.default_rng(1).integers(4, 1000, 512).astype(np.int32)
    model.hidden_states([ids])
    return {
        "way": way,
        "dtype": dtype,
        "seconds": seconds,
        "loading": loaded["VmHWM"] - before["VmRSS"],
        "anonymous": loaded["RssAnon"] - before["RssAnon"],
        "first_batch": memory()["VmHWM"] - before["VmRSS"],
    }


def memory() -> dict[str, int]:
    """Bytes of this process's memory by the names of `/proc/self/status`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    pairs = [line.split(":") for line in lines if line.endswith(" kB")]
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


if __name__ == "__main__":
    main()
