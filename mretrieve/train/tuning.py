"""Scores during training: small pools of the training folders' tuning splits, and MLQA's held-out groups.

Nothing here is trained on, and nothing of it is in the final evaluation.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mretrieve.datasets.heldout import held_out_mlqa
from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError
from mretrieve.evaluate.measures import evaluate
from mretrieve.train.objectives import Role
from mretrieve.train.recipe import VOLATILE, Part
from mretrieve.types import Document, Qrels, Query, Run

_DEPTH = 100
_BATCH = 64
_SHARED = {"cross-lingual": "cross", "sentences": "sentence"}
"""Pools in which a document is right in whatever language, and what their scores are called."""


class Tuning(Part):
    """What is measured, how often.

    `folders` are patterns below `root`, each folder a pool of its own with at most `queries` questions of
    `split` and `passages` passages. `cross_lingual` is a folder like `train/multi-mlqa`: all questions and
    passages of its held-out groups are one pool, and a passage is right in whatever language. `sentences`
    is the pool that a stage `sentences` has made of them: single sentences as documents, which shows far
    more of a model's preference for the question's language than passages do.
    """

    root: str
    folders: list[str] = []
    split: str = "dev"
    queries: Annotated[int, Field(gt=0)] = 40
    passages: Annotated[int, Field(gt=0)] = 200
    cross_lingual: str | None = None
    cross_queries: Annotated[int, Field(gt=0)] = 300
    sentences: str | None = None
    every: Annotated[int, Field(gt=0, json_schema_extra=VOLATILE)] = 500


def tuning_inputs(tuning: Tuning | None) -> list[str]:
    """What a stage with these tuning scores reads of other stages."""
    return [] if tuning is None or tuning.sentences is None else [tuning.sentences]


@dataclass(frozen=True)
class Pool:
    """Questions, the passages that they are asked of, and which of these are right."""

    name: str
    queries: Sequence[Query]
    documents: Sequence[Document]
    qrels: Qrels

    @property
    def language(self) -> str:
        """Of the questions, if they are all of one, else several."""
        languages = {query.lang for query in self.queries}
        return languages.pop() if len(languages) == 1 else "several"


def monolingual_pool(folder: Path, split: str, *, queries: int, passages: int) -> Pool:
    """A sample of a folder's tuning split: its questions, their passages, and others of the folder.

    Raises:
        InputError: the folder lacks the split, or a file is broken.
    """
    draw = random.Random(folder.name)
    file = folder / "qrels" / f"{split}.tsv"
    if split.startswith("train") or not file.is_file():
        raise InputError(f"{folder} has no split '{split}' to tune on: there is no {file}.")
    judged = read_qrels(file)
    chosen = sorted(judged)
    draw.shuffle(chosen)
    qrels = {query_id: judged[query_id] for query_id in chosen[:queries]}
    right = {doc_id for own in qrels.values() for doc_id in own}
    documents = list(open_source(folder).documents())
    others = [document for document in documents if document.doc_id not in right]
    draw.shuffle(others)
    pool = [document for document in documents if document.doc_id in right]
    pool += others[: max(passages - len(pool), 0)]
    asked = [query for query in read_queries(folder) if query.query_id in qrels]
    return Pool(folder.name, asked, pool, qrels)


def cross_lingual_pool(folder: Path, *, queries: int) -> Pool:
    """The held-out groups of MLQA: questions in seven languages, right in any language.

    Raises:
        InputError: a file is missing or broken.
    """
    draw = random.Random(folder.name)
    doc_ids, query_ids = held_out_mlqa(folder)
    qrels: Qrels = defaultdict(dict)
    for split in ("train", "train-xling"):
        for query_id, judged in read_qrels(folder / "qrels" / f"{split}.tsv").items():
            if query_id in query_ids:
                qrels[query_id] |= judged
    chosen = sorted(qrels)
    draw.shuffle(chosen)
    kept = {query_id: qrels[query_id] for query_id in chosen[:queries]}
    return Pool(
        "cross-lingual",
        [query for query in read_queries(folder) if query.query_id in kept],
        [document for document in open_source(folder).documents() if document.doc_id in doc_ids],
        kept,
    )


def sentence_pool(folder: Path) -> Pool:
    """The pool of sentences that a stage has written.

    Raises:
        InputError: it is not there, or broken.
    """
    qrels = read_qrels(folder / "qrels" / "dev.tsv")
    return Pool("sentences", read_queries(folder), list(open_source(folder).documents()), qrels)


def rank_pool(model: Any, pool: Pool, prompts: Mapping[Role, str]) -> Run:
    """Rank a pool's passages for its questions by cosine similarity.

    Args:
        model: a sentence-transformers model.
        pool: what to rank.
        prompts: what texts of the roles `query` and `passage` begin with.
    """
    return _best_of(_similarities(model, pool, prompts), pool)


def _similarities(model: Any, pool: Pool, prompts: Mapping[Role, str]) -> NDArray[np.float32]:
    """(n_queries, n_documents)."""
    asked = _embed(model, [prompts["query"] + query.text for query in pool.queries])
    found = _embed(model, [prompts["passage"] + document.contents for document in pool.documents])
    scores: NDArray[np.float32] = asked @ found.T
    return scores


def _best_of(scores: NDArray[np.float32], pool: Pool) -> Run:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_DEPTH]
    return {
        query.query_id: {pool.documents[i].doc_id: float(scores[row, i]) for i in best[row]}
        for row, query in enumerate(pool.queries)
    }


def _embed(model: Any, texts: list[str]) -> Any:
    return model.encode(
        texts,
        batch_size=_BATCH,
        show_progress_bar=False,
        convert_to_numpy=True,
        normalize_embeddings=True,
        prompt="",
    )


def score_pools(model: Any, pools: Sequence[Pool], prompts: Mapping[Role, str]) -> dict[str, float]:
    """Scores by name.

    Returns:
        nDCG@10 for each language of the monolingual pools (mean over its folders), their mean as
        `monolingual`; of the cross-lingual pool `cross_map`, `cross_ndcg@10` and `cross_own_language`, the
        share of first hits in the question's own language; the same of the pool of sentences, and
        `sentence_mrr`, of each right one among the sentences in its language; and `score`, the mean of
        `monolingual`, `cross_map` and `sentence_map`, as far as they are there.
    """
    by_language: dict[str, list[float]] = defaultdict(list)
    scores: dict[str, float] = {}
    for pool in pools:
        similarities = _similarities(model, pool, prompts)
        run = _best_of(similarities, pool)
        if pool.name not in _SHARED:
            by_language[pool.language].append(evaluate(run, pool.qrels, ["nDCG@10"]).mean["nDCG@10"])
            continue
        label = _SHARED[pool.name]
        values = evaluate(run, pool.qrels, ["AP", "nDCG@10"]).mean
        scores[f"{label}_map"], scores[f"{label}_ndcg@10"] = values["AP"], values["nDCG@10"]
        scores[f"{label}_own_language"] = _own_language(run, pool)
        if pool.name == "sentences":
            scores["sentence_mrr"] = float(mrr_within(similarities, pool).mean())
    for language, own in sorted(by_language.items()):
        scores[f"ndcg@10_{language}"] = sum(own) / len(own)
    if by_language:
        scores["monolingual"] = sum(sum(own) / len(own) for own in by_language.values()) / len(by_language)
    parts = [scores[name] for name in ("monolingual", "cross_map", "sentence_map") if name in scores]
    scores["score"] = sum(parts) / len(parts)
    return scores


def _own_language(run: Run, pool: Pool) -> float:
    languages = {document.doc_id: document.lang for document in pool.documents}
    first = [languages[next(iter(run[query.query_id]))] == query.lang for query in pool.queries]
    return sum(first) / len(first)


def mrr_within(similarities: NDArray[np.float32], pool: Pool) -> NDArray[np.float64]:
    """Reciprocal rank of each right document among the wrong ones in its language.

    Args:
        similarities: (n_queries, n_documents).
        pool: of which they are.

    Returns:
        (n_queries,), each the mean of its right documents.
    """
    languages = np.array([document.lang for document in pool.documents])
    rows = {document.doc_id: row for row, document in enumerate(pool.documents)}
    means = []
    for query, own in zip(pool.queries, similarities, strict=True):
        right = [rows[doc_id] for doc_id in pool.qrels[query.query_id]]
        wrong = np.ones(len(rows), bool)
        wrong[right] = False
        rivals = [wrong & (languages == languages[row]) for row in right]
        ranks = [1 + int((own[one] > own[row]).sum()) for one, row in zip(rivals, right, strict=True)]
        means.append(np.mean(1 / np.array(ranks)))
    return np.array(means, np.float64)


def make_pools(
    tuning: Tuning, root: Path, folders: Collection[Path], sentences: Path | None = None
) -> list[Pool]:
    """All pools of a tuning set; folders of several languages give one for each language of questions.

    Args:
        tuning: what is measured.
        root: of the data.
        folders: below it, a pool each.
        sentences: the pool that a stage `sentences` has made.

    Raises:
        InputError: nothing is named, or a folder is missing or broken.
    """
    pools = []
    for folder in folders:
        pools.append(monolingual_pool(folder, tuning.split, queries=tuning.queries, passages=tuning.passages))
    if tuning.cross_lingual is not None:
        pools.append(cross_lingual_pool(root / tuning.cross_lingual, queries=tuning.cross_queries))
    if sentences is not None:
        pools.append(sentence_pool(sentences))
    if not pools:
        raise InputError(
            "tuning names no folders and no cross_lingual or sentences: give one, or leave tuning out."
        )
    return pools
