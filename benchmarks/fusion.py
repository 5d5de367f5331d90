"""Choose how hybrid search joins its legs, on the tuning splits only.

`python benchmarks/fusion.py` prints two tables of nDCG@10 and writes `results/fusion.json`:

* alone: each set of `train/*` with a dev split against passages of its own;
* pooled: the same questions, and questions whose passage is in another language (AfriQA dev, MLQA's
  `train-xling`), against one index of the passages of all sets.

The default of mretrieve is the best mean of the three columns `alone`, `pooled` and `cross` but for
differences that the questions cannot tell from chance. Passages and questions are sampled with a fixed seed
to keep this to some minutes. Nothing that is used for evaluation
(XQuAD, XQuAD-R, the `eval/` sets) is looked at.
"""

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from common import RESULTS, arguments, index_once, ndcg, need, print_table, read_topics, write_json
from vectors import VectorStore

from mretrieve.cache import cache_folder, make_once
from mretrieve.datasets.source import open_source
from mretrieve.encode.encoder import Encoder
from mretrieve.index.faiss import DenseIndex
from mretrieve.index.terms import terms_for
from mretrieve.rank.fusion import Fusion, Ranking
from mretrieve.rank.ranked import Ranked
from mretrieve.rank.retriever import Retriever
from mretrieve.recipe import Bm25Part, Recipe
from mretrieve.types import Query, Run

QUESTIONS, PASSAGES, SEED = 150, 600, 13
CROSS = {"multi-afriqa": "dev", "multi-mlqa": "train-xling"}
SPECS = [
    *(f"rrf:{k}" for k in (10, 20, 40, 60, 100)),
    *(f"{method}:{weight}" for method in ("minmax", "zscore") for weight in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
]
UNSEEN = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Print the tables and write the figures."""
    parser = arguments(__doc__)
    options = parser.parse_args()
    train = need(options.data / "train")
    sets = {name: sample_split(train / name, split) for name, split in tuning_splits(train).items()}
    pooled = Retriever(index_once(pool_passages(list(sets.values()))))
    store = VectorStore(Encoder("e5-small"))
    alone_runs, pooled_runs = {}, {}
    for name, folder in sets.items():
        queries, qrels = read_topics(folder, "sample")
        pooled_runs[name] = (queries, qrels, pooled, pooled.rank(queries))
        if name not in CROSS:
            retriever = Retriever(bm25_beside_vectors(folder, name[:2]))
            ranked = rank_alone(retriever, pooled, queries, store)
            alone_runs[name] = (queries, qrels, retriever, ranked)
    rows = []
    for spec in SPECS:
        # In a collection of one language nothing is unseen, so one value stands for all.
        alone = {name: _score(Fusion.parse(spec), *runs) for name, runs in alone_runs.items()}
        for unseen in UNSEEN:
            fusion = Fusion.parse(spec, unseen=unseen)
            together = {name: _score(fusion, *runs) for name, runs in pooled_runs.items()}
            rows.append(_row(f"{spec} unseen {unseen:g}", alone, together))
    for leg in ("dense", "bm25"):
        alone = {name: _score(leg, *runs) for name, runs in alone_runs.items()}
        together = {name: _score(leg, *runs) for name, runs in pooled_runs.items()}
        rows.append(_row(leg, alone, together))
    rows.sort(key=lambda row: -float(str(row[-1])))
    print_table(["fusion", "alone", "pooled", "cross", "mean"], rows)
    write_json(options.json or RESULTS / "fusion.json", rows)


def tuning_splits(train: Path) -> dict[str, str]:
    """Name of each set that has questions for tuning -> the split that holds them."""
    splits = {folder.name: "dev" for folder in sorted(train.iterdir()) if (folder / "qrels/dev.tsv").exists()}
    return splits | CROSS


def bm25_beside_vectors(folder: Path, lang: str) -> Path:
    """BM25 of a set in one language, by the terms that it has in an index with vectors."""
    terms = terms_for(lang, "auto", has_vectors=True)
    return index_once(folder, Recipe(encoder=None, bm25=Bm25Part(terms=terms)), name="bm25-")


def rank_alone(
    alone: Retriever, pooled: Retriever, queries: Sequence[Query], store: VectorStore
) -> list[Ranked]:
    """Both legs on one set: BM25 on an index of its own, vectors taken from the pooled index."""
    flat = pooled.index.dense
    assert isinstance(flat, DenseIndex)
    everything = pooled.index.documents.doc_ids(range(len(pooled.index.documents)))
    place = {doc_id: row for row, doc_id in enumerate(everything)}
    own = alone.index.documents.doc_ids(range(len(alone.index.documents)))
    vectors = flat.vectors(np.array([place[doc_id] for doc_id in own]))
    scores = store.queries([query.text for query in queries]) @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    dense = [Ranking(rows, scores[number, rows]) for number, rows in enumerate(order)]
    bm25 = [ranked.ranking for ranked in alone.rank(queries, mode="bm25")]
    return [Ranked(one, dense=one, bm25=other) for one, other in zip(dense, bm25, strict=True)]


def _row(label: str, alone: dict[str, float], together: dict[str, float]) -> list[object]:
    columns = [
        _mean(alone.values()),
        _mean(score for name, score in together.items() if name not in CROSS),
        _mean(score for name, score in together.items() if name in CROSS),
    ]
    return [label, *columns, _mean(columns)]


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def _score(
    fusion: Fusion | str,
    queries: Sequence[Query],
    qrels: dict[str, dict[str, int]],
    retriever: Retriever,
    ranked: Sequence[Ranked],
) -> float:
    run: Run = {}
    for query, one in zip(queries, ranked, strict=True):
        if isinstance(fusion, Fusion):
            assert one.dense is not None and one.bm25 is not None
            fused = fusion.fuse(one.dense, one.bm25, seen=one.seen)
        else:
            leg = one.dense if fusion == "dense" else one.bm25
            assert leg is not None
            fused = leg
        best = fused.top(10)
        run[query.query_id] = dict(zip(retriever.doc_ids(best), best.scores.tolist(), strict=True))
    return ndcg({query: scores for query, scores in run.items() if scores}, qrels)


def sample_split(folder: Path, split: str) -> Path:
    """A small BEIR folder: sampled questions of a split, their passages, and others."""

    def fill(target: Path) -> None:
        """Write the folder."""
        chooser = random.Random(SEED)
        queries, qrels = read_topics(folder, split)
        queries = chooser.sample(queries, min(QUESTIONS, len(queries)))
        documents = list(open_source(folder).documents())
        wanted = {doc_id for query in queries for doc_id in qrels[query.query_id]}
        others = [document for document in documents if document.doc_id not in wanted]
        chosen = wanted | {d.doc_id for d in chooser.sample(others, min(len(others), PASSAGES))}
        _write(
            target / "corpus.jsonl.gz",
            (
                {"_id": d.doc_id, "title": d.title, "text": d.text, "lang": d.lang}
                for d in documents
                if d.doc_id in chosen
            ),
        )
        _write(target / "queries.jsonl.gz", ({"_id": q.query_id, "text": q.text} for q in queries))
        lines = [
            f"{query.query_id}\t{doc_id}\t{grade}"
            for query in queries
            for doc_id, grade in qrels[query.query_id].items()
        ]
        (target / "qrels").mkdir()
        text = "\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n"
        (target / "qrels" / "sample.tsv").write_text(text, encoding="utf-8")

    name = f"{folder.name}-{split}-{QUESTIONS}-{PASSAGES}-{SEED}"
    return make_once(cache_folder() / "benchmarks" / "fusion" / name, fill)


def pool_passages(folders: Sequence[Path]) -> Path:
    """One BEIR folder with the passages of all."""

    def fill(target: Path) -> None:
        seen: dict[str, str] = {}
        for folder in folders:
            with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
                seen |= {json.loads(line)["_id"]: line for line in file}
        with gzip.open(target / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(seen.values())

    return make_once(cache_folder() / "benchmarks" / "fusion" / f"pool-{QUESTIONS}-{PASSAGES}-{SEED}", fill)


def _write(path: Path, records: Iterable[dict[str, str]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
