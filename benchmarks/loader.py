"""Stream a fake corpus of MIRACL's form through the loader: passages per second, and peak memory.

    python benchmarks/loader.py [--passages 5000000] [--json FILE]

The corpus is written first, in shards of half a million passages, with texts as long as MIRACL's are on the
mean (351 characters); reading runs in a process of its own, so that its memory is its own.
"""

import argparse
import gzip
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SHARD = 500_000
MEAN_CHARACTERS = 351
"""Of MIRACL's passages: mteb counts 37,282,620,861 characters in 106,332,152."""

WORDS = [
    "maji",
    "ya",
    "kwa",
    "mji",
    "katika",
    "mwaka",
    "nchi",
    "ماء",
    "مدينة",
    "数学",
    "университет",
    "और",
    "ของ",
]

READER = r"""
import json, re, sys, time
from pathlib import Path
from mretrieve.datasets.passages import CorpusSource
folder = Path(sys.argv[1])
files = sorted(folder.glob("docs-*.jsonl.gz"), key=lambda file: int(file.name[5:].partition(".")[0]))
start, start_cpu = time.perf_counter(), time.process_time()
n_characters = n_passages = 0
for document in CorpusSource("fake", folder, tuple(files), lang="sw").documents():
    n_passages += 1
    n_characters += len(document.text)
seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
# Not getrusage: a process that has just been started counts its parent's memory as its own peak.
peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
figures = {"passages": n_passages, "characters": n_characters, "seconds": seconds}
print(json.dumps({**figures, "cpu_seconds": cpu_seconds, "rss_bytes": peak}))
"""


def write_corpus(folder: Path, n_passages: int) -> int:
    """Write shards of the official form; the size of all of them."""
    random_words = random.Random(13)
    texts: list[str] = []
    while len(texts) < 4096:
        words: list[str] = []
        length = max(40, int(random_words.expovariate(1 / MEAN_CHARACTERS)))
        while sum(map(len, words)) + len(words) < length:
            words.append(random_words.choice(WORDS))
        texts.append(json.dumps(" ".join(words), ensure_ascii=False)[1:-1])
    for start in range(0, n_passages, SHARD):
        path = folder / f"docs-{start // SHARD}.jsonl.gz"
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
            for number in range(start, min(start + SHARD, n_passages)):
                article, place = divmod(number, 9)
                text = f"{number} {texts[number % 4096]}"
                file.write(
                    f'{{"docid": "{article}#{place}", "title": "Makala {article}", "text": "{text}"}}\n'
                )
    return sum(path.stat().st_size for path in folder.iterdir())


def measure(folder: Path) -> dict[str, float]:
    """Read the corpus in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", READER, str(folder)], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--passages", type=int, default=5_000_000)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mretrieve-loader-"))
    try:
        n_bytes = write_corpus(folder, options.passages)
        figures = {**measure(folder), "gzip_bytes": n_bytes}
    finally:
        shutil.rmtree(folder)
    for name in ("seconds", "cpu_seconds"):
        figures[f"passages_per_{name[:-1]}"] = figures["passages"] / figures[name]
    length, speed = figures["characters"] / figures["passages"], figures["passages_per_second"]
    print(
        f"{figures['passages']:,.0f} passages of {length:.0f} characters: {speed:,.0f} passages/s "
        f"({figures['passages_per_cpu_second']:,.0f} per second of CPU), "
        f"{figures['rss_bytes'] / 1e6:,.0f} MB at most"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
