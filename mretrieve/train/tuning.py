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


class Tuning(Part):
    """What is measured, how often.

    `folders` are patterns below `root`, each folder a pool of its own with at most `queries` questions of
    `split` and `passages` passages. `cross_lingual` is a folder like `train/multi-mlqa`: all questions and
    passages of its held-out groups are one pool, and a passage is right in whatever language.
    """

    root: str
    folders: list[str] = []
    split: str = "dev"
    queries: Annotated[int, Field(gt=0)] = 40
    passages: Annotated[int, Field(gt=0)] = 200
    cross_lingual: str | None = None
    cross_queries: Annotated[int, Field(gt=0)] = 300
    every: Annotated[int, Field(gt=0, json_schema_extra=VOLATILE)] = 500


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


def rank_pool(model: Any, pool: Pool, prompts: Mapping[Role, str]) -> Run:
    """Rank a pool's passages for its questions by cosine similarity.

    Args:
        model: a sentence-transformers model.
        pool: what to rank.
        prompts: what texts of the roles `query` and `passage` begin with.
    """
    asked = _embed(model, [prompts["query"] + query.text for query in pool.queries])
    found = _embed(model, [prompts["passage"] + document.contents for document in pool.documents])
    scores = asked @ found.T  # (n_queries, n_documents)
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
        share of first hits in the question's own language; and `score`, the mean of `monolingual` and
        `cross_map`, as far as they are there.
    """
    by_language: dict[str, list[float]] = defaultdict(list)
    scores: dict[str, float] = {}
    for pool in pools:
        run = rank_pool(model, pool, prompts)
        if pool.name != "cross-lingual":
            by_language[pool.language].append(evaluate(run, pool.qrels, ["nDCG@10"]).mean["nDCG@10"])
            continue
        values = evaluate(run, pool.qrels, ["AP", "nDCG@10"]).mean
        scores["cross_map"], scores["cross_ndcg@10"] = values["AP"], values["nDCG@10"]
        scores["cross_own_language"] = _own_language(run, pool)
    for language, own in sorted(by_language.items()):
        scores[f"ndcg@10_{language}"] = sum(own) / len(own)
    if by_language:
        scores["monolingual"] = sum(sum(own) / len(own) for own in by_language.values()) / len(by_language)
    parts = [scores[name] for name in ("monolingual", "cross_map") if name in scores]
    scores["score"] = sum(parts) / len(parts)
    return scores


def _own_language(run: Run, pool: Pool) -> float:
    languages = {document.doc_id: document.lang for document in pool.documents}
    first = [languages[next(iter(run[query.query_id]))] == query.lang for query in pool.queries]
    return sum(first) / len(first)


def make_pools(tuning: Tuning, root: Path, folders: Collection[Path]) -> list[Pool]:
    """All pools of a tuning set; folders of several languages give one for each language of questions."""
    pools = []
    for folder in folders:
        pools.append(monolingual_pool(folder, tuning.split, queries=tuning.queries, passages=tuning.passages))
    if tuning.cross_lingual is not None:
        pools.append(cross_lingual_pool(root / tuning.cross_lingual, queries=tuning.cross_queries))
    if not pools:
        raise InputError("tuning names no folders and no cross_lingual: give one, or leave tuning out.")
    return pools
