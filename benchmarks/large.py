"""One index of the parallel text's sentences, 460,000 in more than 205 languages, built and searched.

The embeddings are made first and kept (`benchmarks/sentences.py`), and lie in a file when the build begins: a
process of its own, whose largest resident memory is compared with the size of the vectors. Then sentences
are searched for one by one, as a user's question is: language detected, encoded, by vectors and by words.
`--sentences N` takes the first N; 0, the default, all.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import arguments, memory_bytes, print_table, write_json
from numpy.typing import NDArray
from sentences import Sentences, encode_sentences, read_sentences, sentence_store

from mretrieve.datasets.source import open_source
from mretrieve.encode.encoder import Encoder
from mretrieve.index.build import build
from mretrieve.index.manifest import RankingEntry
from mretrieve.index.plan import BuildPlan
from mretrieve.indexing import identity_of, lexical_options
from mretrieve.rank.retriever import Retriever

_SEED = 13
_WARM = 50  # queries, all languages' indexes being opened before

Figures = dict[str, float]


class ReadyVectors:
    """Gives the vectors of the next rows from a file, and takes the time of the build's stages."""

    def __init__(self, path: Path, dim: int) -> None:
        self.path, self.dim = path, dim
        self.n_done = 0
        self.seconds: dict[str, float] = {}
        self._before = time.perf_counter()

    def on_progress(self, stage: str, done: int, total: int | None) -> None:
        """Hear how far the build is."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._before
        self._before = now
        if stage == "vectors":
            self.n_done = done

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """(n, dim) float32, read and not mapped, so that they are no resident memory."""
        size = 4 * self.dim
        read = np.fromfile(self.path, np.float32, len(texts) * self.dim, offset=self.n_done * size)
        return read.reshape(len(texts), self.dim)


def build_here(folder: Path, faiss: str) -> Figures:
    """Build in this process, and say what it took."""
    encoder, source = Encoder("e5-small"), open_source(folder / "sentences.jsonl")
    ready = ReadyVectors(folder / "vectors", encoder.dim)
    terms = "auto"
    plan = BuildPlan(
        source.fingerprint(), identity_of(encoder, source), faiss=faiss, ranking=RankingEntry(terms=terms)
    )
    made = build(
        source.documents(),
        folder / "index",
        plan=plan,
        encode=ready.encode,
        lexical=lexical_options(terms),
        on_progress=ready.on_progress,
    )
    return {
        "documents": made.documents,
        "vector_bytes": 4 * encoder.dim * made.documents,
        "most_memory_bytes": memory_bytes("VmHWM"),
        **{f"{stage}_seconds": seconds for stage, seconds in ready.seconds.items()},
    }


def search_times(path: Path, queries: list[str]) -> Figures:
    """Seconds of hybrid searches, one after the other, and of their parts."""
    retriever = Retriever(path)
    retriever.index.open_all()
    for query in queries[:_WARM]:
        retriever.search(query)
    spent = []
    for query in queries[_WARM:]:
        start = time.perf_counter()
        retriever.search(query)
        spent.append(time.perf_counter() - start)
    p50, p95 = np.percentile(spent, [50, 95]).tolist()
    return {"searches": len(spent), "p50_seconds": p50, "p95_seconds": p95}


def write_inputs(sentences: Sentences, vectors: NDArray[np.float32], folder: Path) -> None:
    """What the build reads."""
    vectors.tofile(folder / "vectors")
    with open(folder / "sentences.jsonl", "w", encoding="utf-8") as file:
        for doc_id, text, lang in zip(sentences.ids, sentences.texts, sentences.langs, strict=True):
            record = {"_id": doc_id, "text": text, "lang": lang}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def main() -> None:
    """Build, search, print a table, write the figures."""
    if sys.argv[1:2] == ["--build"]:
        print(json.dumps(build_here(Path(sys.argv[3]), sys.argv[2])))
        return
    parser = arguments(__doc__)
    parser.add_argument("--sentences", type=int, default=0)
    parser.add_argument("--faiss", default="auto")
    parser.add_argument("--queries", type=int, default=500)
    chosen = parser.parse_args()
    sentences = read_sentences(chosen.data, chosen.sentences or None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(sentences, encode_sentences(sentences, sentence_store()), folder)
        command = [sys.executable, __file__, "--build", chosen.faiss, str(folder)]
        figures: Figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        picked = np.random.default_rng(_SEED).choice(len(sentences), _WARM + chosen.queries)
        figures |= search_times(folder / "index", [sentences.texts[number] for number in picked])
    figures["memory_per_vector_byte"] = figures["most_memory_bytes"] / figures["vector_bytes"]
    figures["lexical_per_second"] = figures["documents"] / figures["lexical_seconds"]
    print_table(["figure", ""], [[key, value] for key, value in figures.items()])
    write_json(chosen.json, {"faiss": chosen.faiss} | figures)


if __name__ == "__main__":
    main()
