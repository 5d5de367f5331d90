"""The evaluation sets of `quality.py`: what is asked, what is searched, and what counts.

None of this is ever trained or tuned on. Each set is a function of the data folder and one model's vectors
that gives the values of its measures by question.
"""

import json
import lzma
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from common import XQUAD, need, read_topics
from ranking import Floats, Vectors, best_run, first_is_translation, full_ranking
from vectors import VectorStore

from mretrieve.datasets.heldout import NTREX_EVALUATION_ROWS, ntrex_row, parallel_groups
from mretrieve.datasets.source import open_source
from mretrieve.evaluate.measures import evaluate
from mretrieve.types import Document, Qrels, Query, Run

TYDI = ("ar", "en", "id", "ko", "sw")

HELD_OUT = (
    *("bul", "cat", "cym", "est", "eus", "heb", "hye", "isl", "kat", "kaz"),
    *("lao", "lit", "mal", "mar", "mri", "mya", "sin", "som", "wol", "xho"),
)
"""Languages of NTREX-128 that no recipe trains on; `training/held-out-languages.txt` names the same."""


@dataclass(frozen=True)
class Scores:
    """One measure's value for each question.

    Attributes:
        values: (n,) one a question.
        parts: (n,) language, set or language pair of each, for the mean and for the details.
        clusters: (n,) questions with the same cluster are translations of each other or ask about the same.
        by_part: whether the score is the mean of the parts' means, or that of all questions.
    """

    values: Floats
    parts: list[str]
    clusters: list[str]
    by_part: bool = True

    def means(self) -> dict[str, float]:
        """Part -> mean of its values."""
        values: dict[str, list[float]] = {}
        for part, value in zip(self.parts, self.values.tolist(), strict=True):
            values.setdefault(part, []).append(value)
        return {part: float(np.mean(one)) for part, one in values.items()}

    @property
    def score(self) -> float:
        """The mean."""
        return float(np.mean(list(self.means().values()) if self.by_part else self.values))


Measured = dict[str, Scores]
"""Measure -> its values."""

Measure = Callable[[Path, VectorStore], Measured]


def join(parts: Iterable[Measured]) -> Measured:
    """The same measures of several parts as one."""
    joined: dict[str, list[Scores]] = {}
    for measured in parts:
        for name, scores in measured.items():
            joined.setdefault(name, []).append(scores)
    return {
        name: Scores(
            np.concatenate([one.values for one in several]),
            [part for one in several for part in one.parts],
            [cluster for one in several for cluster in one.clusters],
            several[0].by_part,
        )
        for name, several in joined.items()
    }


@cache
def read_corpus(folder: Path) -> tuple[Document, ...]:
    """All documents of a BEIR folder."""
    return tuple(open_source(need(folder)).documents())


@cache
def read_split(folder: Path, split: str) -> tuple[list[Query], Qrels]:
    """The judged queries of a split and their judgements."""
    return read_topics(need(folder), split)


def search(
    store: VectorStore, queries: Sequence[Query], documents: Sequence[Document], *, top_k: int = 10
) -> Run:
    """The best documents of each query."""
    return best_run(
        [query.query_id for query in queries],
        store.queries([query.text for query in queries]),
        [document.doc_id for document in documents],
        store.documents([document.contents for document in documents]),
        top_k=top_k,
    )


def values_of(measure: str, run: Run, qrels: Qrels, queries: Sequence[Query]) -> Floats:
    """A measure with a cutoff for each query, (n_queries,)."""
    judged = {query.query_id: qrels[query.query_id] for query in queries}
    values = evaluate(run, judged, [measure]).per_query
    return np.array([values[query.query_id][measure] for query in queries])


def whole_pool(
    store: VectorStore, queries: Sequence[Query], documents: Sequence[Document], qrels: Qrels
) -> tuple[Floats, Floats]:
    """Average precision over the whole ranking, and whether the first hit is in the question's language."""
    precision, first = full_ranking(
        store.queries([query.text for query in queries]),
        [document.doc_id for document in documents],
        store.documents([document.contents for document in documents]),
        [qrels[query.query_id] for query in queries],
    )
    langs = {document.doc_id: document.lang for document in documents}
    own = [float(langs[doc_id] == query.lang) for doc_id, query in zip(first, queries, strict=True)]
    return precision, np.array(own)


def parallel_id(identifier: str) -> str:
    """What XQuAD's and XQuAD-R's questions and paragraphs have in common in all languages: `q0007`."""
    return identifier.split("-", 1)[1]


def xquad_r(data: Path, store: VectorStore) -> Measured:
    """Eleven languages in one pool of sentences, eleven of them right (Roy et al., 2020)."""
    queries, qrels = read_split(data / "xquad-r", "test")
    precision, own = whole_pool(store, queries, read_corpus(data / "xquad-r"), qrels)
    parts = [query.lang for query in queries]
    clusters = [parallel_id(query.query_id) for query in queries]
    return {"mAP": Scores(precision, parts, clusters), "own language first": Scores(own, parts, clusters)}


def xquad(data: Path, store: VectorStore) -> Measured:
    """Each of twelve languages against its own 240 paragraphs."""
    return _xquad_pairs(data, store, [(lang, lang) for lang in XQUAD])


def xquad_cross(data: Path, store: VectorStore) -> Measured:
    """Questions in one language, the 240 paragraphs in another: all 132 pairs."""
    return _xquad_pairs(data, store, [pair for pair in product(XQUAD, XQUAD) if pair[0] != pair[1]])


def _xquad_pairs(data: Path, store: VectorStore, pairs: Sequence[tuple[str, str]]) -> Measured:
    def measure(asked: str, searched: str) -> Measured:
        """One pair of languages."""
        queries, judged = read_split(data / "xquad" / asked, "test")
        qrels = {
            query_id: {f"{searched}-{parallel_id(doc_id)}": grade for doc_id, grade in one.items()}
            for query_id, one in judged.items()
        }
        run = search(store, queries, read_corpus(data / "xquad" / searched))
        part = asked if asked == searched else f"{asked}-{searched}"
        clusters = [parallel_id(query.query_id) for query in queries]
        return {"nDCG@10": Scores(values_of("nDCG@10", run, qrels, queries), [part] * len(queries), clusters)}

    return join(measure(*pair) for pair in pairs)


def tydi(data: Path, store: VectorStore) -> Measured:
    """TyDi QA: five languages, each against its own pool."""

    def measure(lang: str) -> Measured:
        """One language."""
        folder = data / "eval" / f"{lang}-tydiqa"
        queries, qrels = read_split(folder, "test")
        values = values_of("nDCG@10", search(store, queries, read_corpus(folder)), qrels, queries)
        return {"nDCG@10": Scores(values, [lang] * len(queries), [query.query_id for query in queries])}

    return join(measure(lang) for lang in TYDI)


@cache
def every_passage(data: Path) -> tuple[Document, ...]:
    """Every passage of the data: those to train on, those to evaluate on, and XQuAD's paragraphs.

    XQuAD-R is left out: its sentences are those of XQuAD's paragraphs.
    """
    folders = [path.parent for path in sorted(data.rglob("corpus.jsonl.gz")) if path.parent.name != "xquad-r"]
    return tuple(document for folder in folders for document in read_corpus(folder))


def pooled(data: Path, store: VectorStore) -> Measured:
    """TyDi QA's and MLQA's questions against one index of everything, some 80,000 passages in 23 languages.

    Of an MLQA question all passages that answer it are right, those in its own language (`test`) and their
    counterparts in other languages (`test-xling`), since all of them are in the index. `nDCG@10, own` counts
    only those in its own, as if the others were wrong.
    """
    tydi_sets = [read_split(data / "eval" / f"{lang}-tydiqa", "test") for lang in TYDI]
    mlqa_queries, own = read_split(data / "eval" / "multi-mlqa", "test")
    cross = read_split(data / "eval" / "multi-mlqa", "test-xling")[1]
    both = {query_id: judged | cross.get(query_id, {}) for query_id, judged in own.items()}
    tydi_qrels = {query_id: judged for _, qrels in tydi_sets for query_id, judged in qrels.items()}
    queries = [query for one, _ in tydi_sets for query in one] + mlqa_queries
    n_tydi = len(queries) - len(mlqa_queries)
    parts = [f"{'tydi' if n < n_tydi else 'mlqa'} {query.lang}" for n, query in enumerate(queries)]
    groups = _mlqa_test_groups(data)
    clusters = [groups.get(query.query_id, query.query_id) for query in queries]
    run = search(store, queries, every_passage(data), top_k=100)
    return {
        "nDCG@10": Scores(values_of("nDCG@10", run, tydi_qrels | both, queries), parts, clusters),
        "R@100": Scores(values_of("R@100", run, tydi_qrels | both, queries), parts, clusters),
        "nDCG@10, own": Scores(values_of("nDCG@10", run, tydi_qrels | own, queries), parts, clusters),
    }


def _mlqa_test_groups(data: Path) -> dict[str, str]:
    folder = data / "eval" / "multi-mlqa" / "qrels"
    return dict(parallel_groups(folder / f"{split}.tsv" for split in ("test", "test-xling")).queries)


def mlqa_cross(data: Path, store: VectorStore) -> Measured:
    """MLQA's questions whose passage is in another language, against all 14,580 passages.

    The passage in the question's own language that answers it counts as wrong here, as the judgements have
    it; in `nDCG@10, own aside` such passages are taken out of the ranking.
    """
    folder = data / "eval" / "multi-mlqa"
    queries, qrels = read_split(folder, "test-xling")
    own = read_split(folder, "test")[1]
    run = search(store, queries, read_corpus(folder), top_k=20)
    aside = {
        query_id: {doc_id: score for doc_id, score in hits.items() if doc_id not in own.get(query_id, {})}
        for query_id, hits in run.items()
    }
    groups = _mlqa_test_groups(data)
    clusters, parts = [groups[query.query_id] for query in queries], [query.lang for query in queries]
    return {
        name: Scores(values_of("nDCG@10", one, qrels, queries), parts, clusters, by_part=False)
        for name, one in (("nDCG@10", run), ("nDCG@10, own aside", aside))
    }


def afriqa(data: Path, store: VectorStore) -> Measured:
    """Questions in seven African languages, English and French passages."""
    folder = data / "train" / "multi-afriqa"
    queries, qrels = read_split(folder, "test")
    values = values_of("nDCG@10", search(store, queries, read_corpus(folder)), qrels, queries)
    ids, parts = [query.query_id for query in queries], [query.lang for query in queries]
    return {"nDCG@10": Scores(values, parts, ids, by_part=False)}


@cache
def read_ntrex(data: Path) -> list[dict[str, str]]:
    """The rows of NTREX-128: language -> sentence."""
    with lzma.open(data / "parallel" / "ntrex-128.jsonl.xz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert [ntrex_row(row["id"]) for row in rows] == list(range(len(rows)))
    return rows


def held_out_languages(data: Path, store: VectorStore) -> Measured:
    """Whether a sentence finds its translation first, from and into English, in languages never trained on.

    The questions are rows that were not trained on in any language; they are sought among all rows.
    """
    return translations(data, store, HELD_OUT, NTREX_EVALUATION_ROWS, range(len(read_ntrex(data))))


def translations(
    data: Path, store: VectorStore, languages: Sequence[str], asked: range, searched: range
) -> Measured:
    """Accuracy of finding each sentence's translation, both ways, between English and other languages."""
    rows = read_ntrex(data)
    places = [searched.index(row) for row in asked]

    def vectors(lang: str) -> Vectors:
        # Both sides are the same kind of text, so both take the same prompt.
        return store.queries([rows[row][lang] for row in searched])

    english = vectors("eng")
    clusters = [rows[row]["id"] for row in asked]
    measured = []
    for lang in languages:
        other = vectors(lang)
        for name, one, pool in ((f"{lang}-eng", other, english), (f"eng-{lang}", english, other)):
            found = first_is_translation(one[places], places, pool)
            measured.append({"accuracy": Scores(found, [name] * len(places), clusters)})
    return join(measured)


SETS: dict[str, Measure] = {
    "xquad-r": xquad_r,
    "xquad": xquad,
    "xquad-cross": xquad_cross,
    "tydi": tydi,
    "mlqa-xling": mlqa_cross,
    "afriqa": afriqa,
    "held-out-languages": held_out_languages,
    "pooled": pooled,
}
"""By name; the one that encodes most comes last."""
