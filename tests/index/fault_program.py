"""Kill builds with SIGKILL at random moments, go on with them, and compare with one that nobody disturbed.

Run as `fault_program.py FOLDER [--data DATA] [--kills N] [--documents N]`. Without --data, the documents are
the package's sample; else all sentences of the parallel text in DATA, each in each of its languages.
Documents, FAISS and Lucene are real; the vectors stand for ready ones: random, made in a moment, and the same
on each start. The result is one line of JSON, with the largest resident memory of any of the builds. Lucene
writes random names into its files, so that its indexes are compared by what they find, everything else byte
by byte. Ends with status 1 where anything differs, or a large set took more than 1.5 times its vectors.
"""

import argparse
import dataclasses
import json
import random
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from mretrieve.datasets.source import open_source
from mretrieve.encode.pieces import cut_into_pieces
from mretrieve.index.build import build
from mretrieve.index.jvm import start_jvm
from mretrieve.index.lucene import LexicalIndex
from mretrieve.index.manifest import DENSE, DOCUMENTS, EncoderIdentity
from mretrieve.index.open import open_index
from mretrieve.index.plan import BuildPlan
from mretrieve.index.verify import verify_index
from mretrieve.indexing import lexical_options
from mretrieve.types import Document

SEED = 13
MOST_MEMORY = 1.5  # bytes resident at any moment, per byte of all vectors
PROBES = 5  # documents of each language that are searched for


def write_sentences(data, limit, path):
    """The first sentences of the parallel text as a file, which a build reads line by line."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from sentences import read_sentences

    sentences = read_sentences(data, limit)
    with open(path, "w", encoding="utf-8") as file:
        for doc_id, text, lang in zip(sentences.ids, sentences.texts, sentences.langs, strict=True):
            record = {"_id": doc_id, "text": text, "lang": lang}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


class ReadyVectors:
    """Gives the vectors of the next rows: a build tells how many are done, also before it was killed."""

    def __init__(self, dim):
        self.dim, self.n_done = dim, 0

    def on_progress(self, stage, done, total):
        if stage == "vectors":
            self.n_done = done

    def __call__(self, texts):
        rng = np.random.default_rng(self.n_done)
        vectors = rng.standard_normal((len(texts), self.dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def memory(name, process="self"):
    """VmRSS or VmHWM of a process in bytes, 0 where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def build_here(args):
    """One build; the process may be killed at any moment after it has said `started`."""
    import faiss
    import pyarrow.ipc

    assert faiss and pyarrow.ipc
    vectors, lexical = ReadyVectors(args.dim), None
    if args.only_build:
        read = (Document(str(number), "text") for number in range(args.documents))
    else:
        start_jvm()
        read, lexical = open_source(args.source).documents(), lexical_options("auto")
    encoder = EncoderIdentity("ready", "f" * 64, args.dim, "", "")
    plan = BuildPlan(
        f"{args.source} {args.documents}", encoder, faiss=args.faiss, lexical=lexical is not None
    )
    sys.stdout.write("started\n")
    sys.stdout.flush()
    before = memory("VmRSS")
    made = build(
        read, args.folder, plan=plan, encode=vectors, lexical=lexical, on_progress=vectors.on_progress
    )
    figures = {"documents": made.documents, "vector_bytes": 4 * args.dim * made.documents}
    figures |= {"rss_before": before, "rss_peak": memory("VmHWM")}
    sys.stdout.write(json.dumps(figures) + "\n")


def start(args, target):
    command = [
        sys.executable,
        __file__,
        str(target),
        "--build",
        "--faiss",
        args.faiss,
        "--dim",
        str(args.dim),
    ]
    command += ["--source", args.source]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if process.stdout.readline() != "started\n":
        sys.exit("a build did not start")
    return process


def finish(process):
    """The figures of a build that is let go on to its end."""
    out, _ = process.communicate()
    if process.returncode != 0:
        sys.exit(f"a build ended with status {process.returncode}")
    return json.loads(out)


def killed_before(process, moment):
    """Kill a build when it has run for some seconds; whether it still ran, and its largest RSS."""
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        peak = memory("VmHWM", process.pid)
        process.kill()
        process.communicate()
        return True, peak
    return False, finish(process)["rss_peak"]


def compare(target, reference):
    """The differences of two indexes, in words."""
    made, wanted = verify_index(target).manifest, verify_index(reference).manifest
    if dataclasses.replace(made, built=wanted.built, files=wanted.files) != wanted:
        return ["manifest"]
    found = [name for name in (DOCUMENTS, DENSE) if made.files[name].sha256 != wanted.files[name].sha256]
    with closing(opened(target)) as mine, closing(opened(reference)) as theirs:
        for lang in theirs.lexical_languages:
            rows = theirs.rows_of(lang)
            for document in theirs.documents.get(rows[:: max(1, len(rows) // PROBES)][:PROBES]):
                pairs = [index.lexical(lang).search(document.contents, 10) for index in (mine, theirs)]
                if not all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True)):
                    found.append(f"BM25 in {lang}, {document.doc_id}")
    return found


def opened(path):
    return open_index(path, open_lexical=lambda folder, lang: LexicalIndex(folder, lang, cut=cut_into_pieces))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--documents", type=int)
    parser.add_argument("--source", default="sample", help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--faiss", default="IVF1024,SQ8")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only-build", action="store_true", help="one build without BM25, nothing killed")
    parser.add_argument("--build", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.build or args.only_build:
        build_here(args)
        return
    if args.data is not None and not (args.data / "parallel").is_dir():
        sys.stdout.write(f"Skipped: {args.data / 'parallel'} is not here.\n")
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.data is not None:
        args.source = str(args.folder / "sentences.jsonl")
        write_sentences(args.data, args.documents, Path(args.source))
    reference, target = args.folder / "reference", args.folder / "killed"
    process = start(args, reference)
    begin = time.monotonic()
    figures = finish(process)
    seconds = time.monotonic() - begin
    rng, kills, ends, starts, different = random.Random(args.seed), 0, 0, 0, []
    while kills < args.kills or not target.exists():
        process = start(args, target)
        starts += 1
        # The last of all is let go on.
        moment = rng.uniform(0, seconds) if kills < args.kills else None
        killed, peak = killed_before(process, moment)
        kills += killed
        figures["rss_peak"] = max(figures["rss_peak"], peak)
        if target.exists():
            ends += 1
            different += compare(target, reference)
            if kills < args.kills:
                shutil.rmtree(target)
    figures |= {"seconds": round(seconds, 1), "kills": kills, "starts": starts, "ends": ends}
    figures |= {"rss_per_vector_byte": figures["rss_peak"] / figures["vector_bytes"], "different": different}
    sys.stdout.write(json.dumps(figures, ensure_ascii=False) + "\n")
    # Of a small set, Python and Java take more than the vectors.
    is_large = figures["vector_bytes"] > 2 * figures["rss_before"]
    sys.exit(bool(different) or (is_large and figures["rss_per_vector_byte"] > MOST_MEMORY))


if __name__ == "__main__":
    main()
