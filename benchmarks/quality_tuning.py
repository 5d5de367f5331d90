"""The tuning sets of `quality.py --tuning`: small, quick, and cut from what is allowed for tuning only.

They stand for the evaluation sets, which must not choose anything: MLQA's held-out groups in one pool, of
passages and of sentences, for XQuAD-R, dev questions against passages of the same articles for XQuAD,
AfriQA's dev questions, and rows of NTREX-128 that training leaves aside.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from common import need
from quality_sets import (
    Measure,
    Measured,
    Scores,
    join,
    read_corpus,
    read_split,
    search,
    translations,
    values_of,
    whole_pool,
)
from vectors import Vectors, VectorStore

from mretrieve.datasets.heldout import MLQA_SPLITS, NTREX_TUNING_ROWS, held_out_mlqa, mlqa_groups
from mretrieve.encode.encoder import Encoder
from mretrieve.train.answers import held_out_sentences
from mretrieve.train.objectives import Role
from mretrieve.train.tuning import Pool, mrr_within
from mretrieve.types import Qrels

T = TypeVar("T")

DEV_SETS = (
    *("am-amqa", "de-omosqa", "en-newwiki", "fa-pquad", "fr-piaf", "id-tydiqa", "ja-jaquad"),
    *("ko-tydiqa", "pl-poquad", "pt-faquad", "sw-tydiqa", "tr-tquad", "zh-drcd"),
)
"""One set a language; those with very long passages are left out for their cost."""

LANGUAGES = ("amh", "arb", "deu", "hau", "hin", "ibo", "jpn", "kor", "rus", "swa", "tha", "zho-CN")
"""Languages of NTREX-128 to tune by, of those that are trained on."""

PASSAGES, QUESTIONS = 60, 150

TEACHER, SENTENCE_GROUPS, MARGIN = "e5-small", 80, 0.02
"""Of the pool of sentences: the model that finds the answers, how many groups, and its margin."""


def mlqa_pool(data: Path, store: VectorStore) -> Measured:
    """The held-out fifth of MLQA, seven languages in one pool: each question's passage in every language."""
    folder = need(data / "train" / "multi-mlqa")
    documents, asked = held_out_mlqa(folder)
    splits = [read_split(folder, split) for split in MLQA_SPLITS]
    queries = list({query.query_id: query for one, _ in splits for query in one}.values())
    queries = [query for query in queries if query.query_id in asked]
    qrels: Qrels = {}
    for _, judged in splits:
        for query_id, one in judged.items():
            qrels[query_id] = qrels.get(query_id, {}) | one
    pool = [document for document in read_corpus(folder) if document.doc_id in documents]
    precision, own = whole_pool(store, queries, pool, qrels)
    groups = mlqa_groups(folder).queries
    parts, clusters = [query.lang for query in queries], [groups[query.query_id] for query in queries]
    return {"mAP": Scores(precision, parts, clusters), "own language first": Scores(own, parts, clusters)}


def mlqa_sentences(data: Path, store: VectorStore) -> Measured:
    """The sentences of MLQA's held-out passages, in the manner of XQuAD-R: right are all translations of one.

    No answer is marked; e5-small finds them, whatever model is measured, so that all have the same pool.
    """
    own = store.encoder.name == TEACHER
    teacher = store if own else VectorStore(Encoder(TEACHER), on_progress=store.on_progress)

    def embed(role: Role, texts: Sequence[str]) -> Vectors:
        """By the teacher."""
        return teacher.queries(texts) if role == "query" else teacher.documents(texts)

    folder = need(data / "train" / "multi-mlqa")
    found = held_out_sentences(folder, embed, groups=SENTENCE_GROUPS, margin=MARGIN)
    queries, documents = found.queries, found.documents
    precision, first = whole_pool(store, queries, documents, found.qrels)
    scores = store.queries([query.text for query in queries]) @ store.documents([d.text for d in documents]).T
    within = mrr_within(scores, Pool("sentences", queries, documents, found.qrels))
    groups = mlqa_groups(folder).queries
    parts, clusters = [query.lang for query in queries], [groups[query.query_id] for query in queries]
    values = {"mAP": precision, "own language first": first, "MRR within": within}
    return {name: Scores(one, parts, clusters) for name, one in values.items()}


def dev_sets(data: Path, store: VectorStore) -> Measured:
    """Dev questions of thirteen languages, each against some of its own set's passages."""
    return join(_sampled(data / "train" / name, store, name, spread=False) for name in DEV_SETS)


def afriqa_dev(data: Path, store: VectorStore) -> Measured:
    """Dev questions in five African languages against English and French passages."""
    return _sampled(data / "train" / "multi-afriqa", store, "", spread=True)


def _sampled(folder: Path, store: VectorStore, part: str, *, spread: bool) -> Measured:
    """Some dev questions against the passages judged for dev: neighbours (one article's), or spread out."""
    queries, qrels = read_split(folder, "dev")
    judged = {doc_id for one in qrels.values() for doc_id in one}
    pool = [document for document in read_corpus(folder) if document.doc_id in judged]
    pool = _every(pool, 4 * PASSAGES) if spread else pool[:PASSAGES]
    inside = {document.doc_id for document in pool}
    queries = _every([query for query in queries if qrels[query.query_id].keys() <= inside], QUESTIONS)
    values = values_of("nDCG@10", search(store, queries, pool), qrels, queries)
    parts = [part or query.lang for query in queries]
    return {"nDCG@10": Scores(values, parts, [query.query_id for query in queries])}


def _every(items: Sequence[T], n: int) -> list[T]:
    """At most `n` items, evenly spaced."""
    return [items[len(items) * number // n] for number in range(n)] if len(items) > n else list(items)


def ntrex_dev(data: Path, store: VectorStore) -> Measured:
    """Whether a sentence finds its translation first, from and into English, in rows not trained on."""
    return translations(data, store, LANGUAGES, NTREX_TUNING_ROWS, NTREX_TUNING_ROWS)


TUNING_SETS: dict[str, Measure] = {
    "mlqa-pool": mlqa_pool,
    "mlqa-sentences": mlqa_sentences,
    "dev": dev_sets,
    "afriqa-dev": afriqa_dev,
    "ntrex-dev": ntrex_dev,
}
