"""What the benchmark scripts share: where the data are, indexes made once, and tables."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mretrieve import build_index
from mretrieve.cache import cache_folder
from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError
from mretrieve.evaluate.measures import evaluate
from mretrieve.index.manifest import is_index
from mretrieve.rank.retriever import Retriever
from mretrieve.recipe import Recipe
from mretrieve.types import Mode, Query, Run

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
XQUAD = ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows where the data are."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folder")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser


def index_once(collection: Path, recipe: Recipe | None = None, *, name: str = "") -> Path:
    """An index of a collection, kept in the cache for the next run of any benchmark."""
    recipe = recipe or Recipe()
    digest = open_source(collection).fingerprint()[:12]
    terms = "" if recipe.bm25 is None or recipe.bm25.terms == "analyzer" else f"{recipe.bm25.terms}-"
    key = f"{'-'.join(collection.parts[-2:])}-{name}{terms}{digest}"
    path = cache_folder() / "benchmarks" / key
    if not is_index(path):
        print(f"indexing {collection} ...", file=sys.stderr)
        build_index(collection, path, recipe=recipe)
    return path


def read_topics(folder: Path, split: str) -> tuple[list[Query], dict[str, dict[str, int]]]:
    """The judged queries of a split, and their judgements."""
    qrels = read_qrels(folder / "qrels" / f"{split}.tsv")
    return [query for query in read_queries(folder) if query.query_id in qrels], qrels


def run_of(retriever: Retriever, queries: Sequence[Query], *, mode: Mode, top_k: int = 100) -> Run:
    """Rank all queries."""
    ranked = retriever.rank(queries, top_k=top_k, mode=mode)
    return {
        query.query_id: dict(zip(retriever.doc_ids(one.ranking), one.ranking.scores.tolist(), strict=True))
        for query, one in zip(queries, ranked, strict=True)
    }


def ndcg(run: Run, qrels: Mapping[str, Mapping[str, int]]) -> float:
    """Mean nDCG@10."""
    return evaluate(run, {q: dict(d) for q, d in qrels.items()}, ["nDCG@10"]).mean["nDCG@10"]


def gemm_peak(dtype: str) -> float:
    """GFLOP/s of a large matrix product on packed weights, the best of some: what this CPU can do at most.

    Args:
        dtype: `float32` or `bfloat16`.
    """
    import torch

    from mretrieve.models.packed import linear

    size, number_type = 2048, getattr(torch, dtype)
    multiply = linear(torch.randn(size, size).to(number_type), None)
    x = torch.randn(size, size).to(number_type)
    best = 0.0
    with torch.inference_mode():
        for _ in range(15):
            start = time.perf_counter()
            multiply(x)
            best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best


def memory_bytes(name: str) -> int:
    """Resident memory of this process: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table, numbers with four decimals."""
    print(format_table(header, rows))


def with_mean(rows: Sequence[Sequence[object]]) -> list[Sequence[object]]:
    """Rows of a name and numbers, and behind them a row of the numbers' means."""
    _, *columns = zip(*rows, strict=True)
    means = [sum(float(str(one)) for one in column) / len(rows) for column in columns]
    return [*rows, ["mean", *means]]


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, digits: int = 4) -> str:
    """A Markdown table."""
    cells = [[f"{c:.{digits}f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in [list(header), *cells]]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def write_json(path: Path | None, figures: object) -> None:
    """Write figures where they were asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def need(folder: Path) -> Path:
    """The folder, if it is there.

    Raises:
        InputError: it is not.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not here: name the data folder with --data.")
    return folder
