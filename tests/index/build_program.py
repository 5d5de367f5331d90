"""A small build with a made-up encoder and BM25, as a module for tests and as a program to be killed."""

import argparse
import hashlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from mretrieve.errors import InputError
from mretrieve.index.build import build
from mretrieve.index.manifest import EncoderIdentity
from mretrieve.index.plan import BuildPlan
from mretrieve.index.stages import LexicalOptions
from mretrieve.types import Document

TEXTS = {
    "en": "The river rises in the mountains",
    "ar": "ينبع النهر من الجبال العالية",
    "th": "แม่น้ำไหลลงมาจากภูเขา",
    "": "??",
}


def make_documents(n, start=0):
    """n documents in three languages and in none, with ids that are not ASCII."""
    langs = list(TEXTS)
    for i in range(start, start + n):
        lang = langs[i % len(langs)]
        yield Document(f"id-é-{i}", f"{TEXTS[lang]} {i}", "Título" if i % 2 else "", lang, f"c.jsonl:{i + 1}")


def make_plan(*, source="s1", dim=16, faiss="Flat", lexical=True, shard_size=8, model="fake", device="auto"):
    encoder = EncoderIdentity(model, "f" * 64, dim, "query: ", "passage: ")
    return BuildPlan(source, encoder, faiss=faiss, lexical=lexical, shard_size=shard_size, device=device)


class FakeEncoder:
    """A unit vector made of each text's digest; writes down each call's first text."""

    def __init__(self, dim=16, log=None, delay_seconds=0.0):
        self.dim, self.log, self.delay_seconds = dim, log, delay_seconds
        self.calls = []

    def __call__(self, texts):
        self.calls.append(texts[0])
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{texts[0]}\n")
        time.sleep(self.delay_seconds)
        seeds = (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts)
        vectors = np.stack(
            [np.random.default_rng(s).standard_normal(self.dim, dtype=np.float32) for s in seeds]
        )
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class RandomEncoder:
    """Random unit vectors, quickly."""

    def __init__(self, dim):
        self.dim, self.rng = dim, np.random.default_rng(13)

    def __call__(self, texts):
        vectors = self.rng.standard_normal((len(texts), self.dim), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class FakeWriter:
    """Keeps one JSON string per line; searched by counting common words."""

    def __init__(self, path, lang):
        path.mkdir()
        (path / "write.lock").touch()
        self.file = open(path / f"{lang}.jsonl", "w", encoding="utf-8")

    def add(self, texts):
        self.file.writelines(json.dumps(text) + "\n" for text in texts)

    def close(self):
        self.file.close()


class FakeSearcher:
    def __init__(self, path, lang):
        self.texts = [json.loads(line) for line in (path / f"{lang}.jsonl").read_text("utf-8").splitlines()]

    def search(self, query, top_k):
        scores = np.array([len({*query.split()} & {*t.split()}) for t in self.texts], dtype=np.float32)
        rows = np.argsort(-scores, kind="stable")[:top_k]
        return rows, scores[rows]


def make_lexical(open_writer=FakeWriter):
    return LexicalOptions(open_writer, lambda lang: f"fake-{lang}")


def small_build(path, n=30, *, start=0, encode=None, **options):
    """Build n documents at path; options of `build`, or of `make_plan`."""
    own = {name: options.pop(name) for name in ("overwrite", "on_progress") if name in options}
    plan = make_plan(source=f"{start}+{n}", **options)
    lexical = make_lexical() if plan.lexical else None
    return build(
        make_documents(n, start), path, plan=plan, encode=encode or FakeEncoder(), lexical=lexical, **own
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--documents", type=int, default=30)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--shard-size", type=int, default=8)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--faiss", default="Flat")
    parser.add_argument("--log")
    parser.add_argument("--delay-seconds", type=float, default=0.0)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--max-file-bytes", type=int)
    args = parser.parse_args()
    if args.max_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (args.max_file_bytes, args.max_file_bytes))
    encode = RandomEncoder(args.dim) if args.random else FakeEncoder(args.dim, args.log, args.delay_seconds)
    import faiss
    import pyarrow.ipc

    assert faiss and pyarrow.ipc  # imported before the clock of those who kill starts
    sys.stdout.write("started\n")
    sys.stdout.flush()
    try:
        small_build(
            args.path,
            args.documents,
            start=args.start,
            encode=encode,
            dim=args.dim,
            faiss=args.faiss,
            shard_size=args.shard_size,
            overwrite=args.overwrite,
        )
    except InputError as error:
        sys.exit(f"InputError: {error}")
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        sys.stdout.write(f"peak_kb {peak.split()[1]}\n")


if __name__ == "__main__":
    main()
