"""What `mretrieve plan` says against real builds: disk, memory while building, and time.

Vectors are random ones around random centres, which take as much room as any. Each index is built in a
process of its own from shards on the disk, as `mretrieve index` builds it. Memory is the largest resident
size, less what Python and FAISS took before; files that are mapped into memory count, too.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import arguments, memory_bytes, print_table, write_json

from mretrieve.index.faiss import build_dense, load_faiss
from mretrieve.planning import clustered_vectors, measured_rates, plan_index

SIZES = (10_000, 100_000, 460_000)
FACTORIES = ("auto", "Flat", "small", "IVF1024,PQ48,Refine(SQ8)")
_ROWS = 1024  # of a shard, as `mretrieve index` writes them
_AT_ONCE = 64  # shards made at once

Figures = dict[str, float]


def write_shards(folder: Path, n_vectors: int, dim: int) -> None:
    """Vectors as `mretrieve index` keeps them while it builds."""
    folder.mkdir()
    for start in range(0, n_vectors, _ROWS * _AT_ONCE):
        vectors = clustered_vectors(min(_ROWS * _AT_ONCE, n_vectors - start), dim, seed=start)
        for first in range(0, len(vectors), _ROWS):
            np.save(folder / f"{start + first:09d}.npy", vectors[first : first + _ROWS])


def build_here(folder: Path, factory: str) -> Figures:
    """Build in this process, and say what it took."""
    load_faiss()
    shards = sorted(folder.glob("*.npy"))
    before = memory_bytes("VmRSS")
    start = time.perf_counter()
    build_dense(shards, folder / "dense.faiss", factory=factory, device="cpu")
    seconds = time.perf_counter() - start
    size = (folder / "dense.faiss").stat().st_size
    (folder / "dense.faiss").unlink()
    return {
        "disk_bytes": size,
        "ram_building_bytes": memory_bytes("VmHWM") - before,
        "building_seconds": seconds,
    }


def compare(n_vectors: int, dim: int, factories: list[str], folder: Path) -> list[dict[str, object]]:
    """Planned and measured figures of indexes of one size."""
    shards = folder / str(n_vectors)
    write_shards(shards, n_vectors, dim)
    rates = measured_rates(dim)
    found: list[dict[str, object]] = []
    for factory in factories:
        print(f"{n_vectors:,} {factory} ...", file=sys.stderr)
        planned = plan_index(n_vectors, dim, faiss=factory, rates=rates)
        command = [sys.executable, __file__, "--build", factory, str(shards)]
        measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        own = {name: getattr(planned, name) for name in measured}
        found.append({"vectors": n_vectors, "factory": planned.factory, "planned": own, "measured": measured})
    return found


def main() -> None:
    """Compare, print a table, write the figures."""
    if sys.argv[1:2] == ["--build"]:
        print(json.dumps(build_here(Path(sys.argv[3]), sys.argv[2])))
        return
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--factories", nargs="+", default=FACTORIES)
    chosen = parser.parse_args()
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for n_vectors in chosen.sizes:
            found += compare(n_vectors, chosen.dim, list(chosen.factories), Path(folder))
    rows = []
    for one in found:
        planned, measured = one["planned"], one["measured"]
        assert isinstance(planned, dict) and isinstance(measured, dict)
        pairs = [
            f"{planned[name] / unit:.1f} / {measured[name] / unit:.1f}"
            for name, unit in (("disk_bytes", 1e6), ("ram_building_bytes", 1e6), ("building_seconds", 1.0))
        ]
        rows.append([f"{one['vectors']:,}", one["factory"], *pairs])
    print_table(["vectors", "index", "MB on disk, planned / measured", "MB of memory", "seconds"], rows)
    write_json(chosen.json, {"dim": chosen.dim, "found": found})


if __name__ == "__main__":
    main()
