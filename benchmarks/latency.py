"""How long a search takes: whole processes from a cold start, and a warm Retriever.

`python benchmarks/latency.py` prints medians of 7 processes on an index of the package's sample, and the
median and 95th percentile of a 20-word query on XQuAD's 2,880 paragraphs in 12 languages.
"""

import gzip
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
from common import XQUAD, arguments, index_once, need, print_table, write_json

from mretrieve.cache import cache_folder, make_once
from mretrieve.datasets.source import SAMPLE, open_source
from mretrieve.rank.retriever import Retriever
from mretrieve.types import Mode

QUESTION = "Why did Harvard end its early admission program?"
# 20 words
LONG = "Which of the teams that played in the final game of that season had the better defense and how many"
PROCESSES, SEARCHES = 7, 200
WARM_SECONDS = 12.0
"""Searches before the first that is timed: after some hundred the encoder has loaded its faster backend."""


def main() -> None:
    """Print both tables."""
    options = arguments(__doc__).parse_args()
    sample = index_once(SAMPLE)
    program = str(Path(sys.executable).with_name("mretrieve"))
    commands = {
        "mretrieve --help": [program, "--help"],
        "search --mode dense": [program, "search", str(sample), QUESTION, "--mode", "dense"],
        "search --mode bm25": [program, "search", str(sample), QUESTION, "--mode", "bm25"],
        "search --mode hybrid": [program, "search", str(sample), QUESTION, "--mode", "hybrid"],
    }
    cold = {
        name: statistics.median(_process(command) for _ in range(PROCESSES))
        for name, command in commands.items()
    }
    print_table(["whole process", "median s"], [[name, f"{seconds:.2f}"] for name, seconds in cold.items()])
    print()
    retriever = Retriever(index_once(all_paragraphs(need(options.data / "xquad"))))
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_SECONDS:
        retriever.search(LONG)
    warm = {}
    for mode in get_args(Mode):
        for _ in range(20):
            retriever.search(LONG, mode=mode)
        times = [_search(retriever, mode) for _ in range(SEARCHES)]
        warm[mode] = {"p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95))}
    rows = [[mode, f"{ms['p50']:.1f}", f"{ms['p95']:.1f}"] for mode, ms in warm.items()]
    print_table(["warm search, 2,880 documents", "p50 ms", "p95 ms"], rows)
    write_json(options.json, {"cold_seconds": cold, "warm_ms": warm})


def _process(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def _search(retriever: Retriever, mode: Mode) -> float:
    start = time.perf_counter()
    retriever.search(LONG, mode=mode)
    return (time.perf_counter() - start) * 1000


def all_paragraphs(xquad: Path) -> Path:
    """XQuAD's paragraphs in all languages as one BEIR folder, in the cache."""

    def fill(target: Path) -> None:
        with gzip.open(target / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
            for lang in XQUAD:
                for d in open_source(xquad / lang).documents():
                    file.write(json.dumps({"_id": d.doc_id, "text": d.text, "lang": d.lang}) + "\n")

    return make_once(cache_folder() / "benchmarks" / "xquad-all", fill)


if __name__ == "__main__":
    main()
