"""The benchmarks are scripts beside the package: their folder goes on the path, as for a script."""

import gzip
import json
import lzma
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

XQUAD = ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")
N_PARAGRAPHS = 6


class BagOfWords:
    """Stands for a model: each word has a direction of its own, some words weigh more."""

    query_prefix = document_prefix = ""
    name, fingerprint, device, dim = "bag", "0", "cpu", 512

    def __init__(self, weights=None):
        self.weights = weights or {}
        self.directions = {}
        self.calls = []

    def prefer_bulk(self):
        return "fp32"

    def encode_queries(self, texts):
        self.calls.append(list(texts))
        rows = [sum(self.weights.get(word, 1.0) * self._direction(word) for word in t.split()) for t in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32)

    encode_documents = encode_queries

    def _direction(self, word):
        if word not in self.directions:  # random ones of so many dimensions are all but orthogonal
            direction = np.random.default_rng(len(self.directions)).normal(size=self.dim)
            self.directions[word] = direction / np.linalg.norm(direction)
        return self.directions[word]


def write_set(folder, documents, queries, splits):
    """A BEIR folder: (id, text, lang) of documents and queries, split -> (query_id, doc_id) pairs."""
    folder.mkdir(parents=True)
    for name, rows in (("corpus", documents), ("queries", queries)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for identifier, text, lang in rows:
                file.write(json.dumps({"_id": identifier, "text": text, "lang": lang}) + "\n")
    (folder / "qrels").mkdir()
    for split, pairs in splits.items():
        lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{doc}\t1" for query, doc in pairs)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parallel_sets(data):
    """XQuAD and XQuAD-R: paragraph n in language X is `topic<n> in-X`, and so is its question."""
    pool, questions, judged = [], [], []
    for lang in XQUAD:
        texts = [(f"p{n:03}", f"topic{n} in-{lang}") for n in range(N_PARAGRAPHS)]
        documents = [(f"{lang}-{name}", text, lang) for name, text in texts]
        queries = [(f"{lang}-q{n:04}", f"topic{n} in-{lang}", lang) for n in range(N_PARAGRAPHS)]
        pairs = [(query[0], document[0]) for query, document in zip(queries, documents, strict=True)]
        write_set(data / "xquad" / lang, documents, queries, {"test": pairs})
        if lang != "ro":
            pool += [(f"{identifier}-s00", text, lang) for identifier, text, _ in documents]
            questions += queries
    judged = [
        (query[0], one[0]) for query in questions for one in pool if query[1].split()[0] in one[1].split()
    ]
    write_set(data / "xquad-r", pool, questions, {"test": judged})


def write_other_sets(data):
    """TyDi QA, MLQA (its questions' answers in two languages) and AfriQA, in the same words."""
    for lang in ("ar", "en", "id", "ko", "sw"):
        texts = [f"tydi{n} in-{lang}" for n in range(3)]
        documents = [(f"tydi-{lang}-p{n}", text, lang) for n, text in enumerate(texts)]
        queries = [(f"tydi-{lang}-q{n}", text, lang) for n, text in enumerate(texts)]
        pairs = [(query[0], document[0]) for query, document in zip(queries, documents, strict=True)]
        write_set(data / "eval" / f"{lang}-tydiqa", documents, queries, {"test": pairs})
    for folder, splits, prefix, more in (
        (data / "eval" / "multi-mlqa", ("test", "test-xling"), "test", ""),
        # Long enough for sentences that may be answers.
        (data / "train" / "multi-mlqa", ("train", "train-xling"), "dev", " as-in-all-other-passages"),
    ):
        texts = [(n, lang) for n in range(40) for lang in ("de", "es")]
        words = {(n, lang): f"{prefix}{n} in-{lang}{more}" for n, lang in texts}
        documents = [(f"mlqa-{prefix}-p{n:05}{lang}", words[n, lang], lang) for n, lang in texts]
        queries = [(f"{lang}-{prefix}{n}", words[n, lang], lang) for n, lang in texts]
        pairs = [
            (q, d) for (q, one, _), (d, other, _) in zip(queries, documents, strict=True) if one == other
        ]
        cross = [
            (f"{a}-{prefix}{n}", f"mlqa-{prefix}-p{n:05}{b}")
            for n, a in texts
            for b in ("de", "es")
            if a != b
        ]
        write_set(folder, documents, queries, dict(zip(splits, (pairs, cross), strict=True)))
    documents = [(f"afriqa-p{n}", f"afriqa{n} in-en", "en") for n in range(20)]
    queries = [(f"afriqa-{s}-{n}", f"afriqa{n} in-bem", "bem") for s in ("dev", "test") for n in range(20)]
    splits = {s: [(f"afriqa-{s}-{n}", f"afriqa-p{n}") for n in range(20)] for s in ("dev", "test")}
    write_set(data / "train" / "multi-afriqa", documents, queries, splits)


def write_dev_sets(data):
    """Two questions on each of 80 passages, of which the later ones are of another article."""
    from quality_tuning import DEV_SETS

    for name in DEV_SETS:
        texts = [f"{name}-{n} article{n // 70}" for n in range(80)]
        documents = [(f"{name}-p{n}", text, name[:2]) for n, text in enumerate(texts)]
        queries = [(f"{name}-q{n}-{m}", text, name[:2]) for n, text in enumerate(texts) for m in range(2)]
        pairs = [(query[0], f"{name}-p{query[0].split('-')[2][1:]}") for query in queries]
        write_set(data / "train" / name, documents, queries, {"dev": pairs})


def write_ntrex(data):
    """All rows in English, the held-out languages and those to tune by."""
    from quality_sets import HELD_OUT
    from quality_tuning import LANGUAGES

    rows = [
        {"id": f"ntrex-{n:04}", "eng": f"row{n}"}
        | {lang: f"row{n} in-{lang}" for lang in HELD_OUT + LANGUAGES}
        for n in range(1997)
    ]
    (data / "parallel").mkdir()
    with lzma.open(data / "parallel" / "ntrex-128.jsonl.xz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """The data folder's layout with a few words for texts; not to be changed."""
    data = tmp_path_factory.mktemp("data")
    write_parallel_sets(data)
    write_other_sets(data)
    write_dev_sets(data)
    write_ntrex(data)
    return data


@pytest.fixture
def store(tmp_path):
    """A function that makes the vectors of a bag of words: weights of some words."""
    from vectors import VectorStore

    return lambda **weights: VectorStore(BagOfWords(weights), folder=tmp_path / f"vectors-{weights}")
