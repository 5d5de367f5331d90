"""What there is to mine: the choices, the training questions, and what is known of their answers."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mretrieve import files
from mretrieve.datasets.heldout import held_out_mlqa, mlqa_groups
from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import find_beir_file, resolve_address
from mretrieve.errors import InputError
from mretrieve.mine.false_negatives import MAX_OVERLAP
from mretrieve.mine.leakage import check_folder, check_split
from mretrieve.mine.pool import Pool
from mretrieve.mine.relations import Relations, read_answers, read_groups
from mretrieve.mine.sample import Strategy
from mretrieve.types import Mode, Qrels, Query

_MLQA = "multi-mlqa"
"""The set of which we know what is parallel, and hold a part out."""

_VERSION = 1
"""Raised when the same choices come to other triples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningOptions:
    """How negatives are mined; see the functions of the same arguments.

    Attributes:
        split: name of the judgements in `qrels/`.
        any_split: mine for `split` although its name does not start with `train`.
        mode: `dense`, `bm25` or `hybrid`.
        top_k: candidates per query from the whole pool.
        per_language: candidates besides for each language of the pool but the query's own.
        max_ratio: limit of a negative's score as a share of the positive's.
        margin: least difference to the positive's score.
        same_scale: compare documents of several languages as if they were all in the positive's.
        max_overlap: share of the shorter text from which two texts are the same.
        cross_encoder: model that looks at what the other rules left.
        cross_max_ratio: limit of a negative's score by the cross-encoder, as a share of the positive's.
        groups: file of `group<tab>id`, or folder of translations: which documents are parallel.
        leave_out: ids of queries and documents to leave aside.
        per_query: negatives of a triple.
        strategy: `top`, `random` or `top1+random`.
        other_languages: share of negatives in other languages than the query's.
        seed: of all random choices.
    """

    split: str = "train"
    any_split: bool = False
    mode: Mode = "hybrid"
    top_k: int = 100
    per_language: int = 0
    max_ratio: float | None = 0.95
    margin: float | None = None
    same_scale: bool = True
    max_overlap: float = MAX_OVERLAP
    cross_encoder: str | None = None
    cross_max_ratio: float = 0.95
    groups: str | None = None
    leave_out: tuple[str, ...] = ()
    per_query: int = 7
    strategy: Strategy = "top"
    other_languages: float = 0.0
    seed: int = 13


@dataclass(frozen=True, slots=True)
class Task:
    """What is mined: read once, the same for all chunks of queries.

    Attributes:
        queries: those with a positive, in the order of their file.
        qrels: their judgements in the split.
        relations: what is known of answers, from all splits.
        leave_out: ids of documents that must not become negatives.
        fingerprint: of all that decides the triples.
    """

    queries: tuple[Query, ...]
    qrels: Qrels
    relations: Relations
    leave_out: frozenset[str]
    fingerprint: str


def read_task(folder: Path, pool: Pool, options: MiningOptions) -> Task:
    """Read the training questions of a BEIR folder.

    Raises:
        InputError: the folder or the split is for evaluation; the data are missing or broken, or name
            documents that the pool does not hold.
    """
    check_folder(folder, "mined from")
    check_folder(pool.path, "mined from")
    if not options.any_split:
        check_split(options.split)
    folder = resolve_address(folder)
    queries = {query.query_id: query for query in read_queries(folder)}
    leave_out = _left_out(folder, options)
    qrels = {
        query_id: judged
        for query_id, judged in read_qrels(_split_file(folder, options.split)).items()
        if query_id not in leave_out and any(grade > 0 for grade in judged.values())
    }
    _check(folder, options.split, queries, qrels)
    pool.rows([doc_id for judged in qrels.values() for doc_id, grade in judged.items() if grade > 0])
    relations = Relations(
        list(queries.values()),
        _all_qrels(folder),
        groups=_groups(folder, options),
        answers=read_answers(folder),
    )
    chosen = tuple(query for query_id, query in queries.items() if query_id in qrels)
    return Task(chosen, qrels, relations, leave_out, _fingerprint(folder, pool, options))


def _check(folder: Path, split: str, queries: dict[str, Query], qrels: Qrels) -> None:
    unknown = [query_id for query_id in qrels if query_id not in queries]
    if unknown:
        raise InputError(
            f"{folder}: the judgements of '{split}' name the query '{unknown[0]}', which is not among the "
            f"queries ({len(unknown):,} are missing)."
        )
    if not qrels:
        raise InputError(f"{folder}: no judgement of '{split}' is left to mine negatives for.")


def _groups(folder: Path, options: MiningOptions) -> dict[str, str]:
    known = mlqa_groups(folder).documents if folder.name == _MLQA else {}
    return dict(known) | (read_groups(options.groups) if options.groups else {})


def _left_out(folder: Path, options: MiningOptions) -> frozenset[str]:
    if folder.name != _MLQA:
        return frozenset(options.leave_out)
    documents, questions = held_out_mlqa(folder)
    return documents | questions | frozenset(options.leave_out)


def _split_file(folder: Path, split: str) -> Path:
    for name in (f"{split}.tsv", f"{split}.tsv.gz"):
        if (folder / "qrels" / name).is_file():
            return folder / "qrels" / name
    found = ", ".join(path.name.split(".tsv")[0] for path in _qrels_files(folder))
    there = f"There is: {found}." if found else "It holds no qrels/*.tsv at all."
    raise InputError(f"{folder} has no split '{split}' in qrels/. {there}")


def _qrels_files(folder: Path) -> list[Path]:
    return sorted((folder / "qrels").glob("*.tsv*"))


def _all_qrels(folder: Path) -> Qrels:
    """The judgements of all splits: an answer to one question may be known from another split."""
    joined: Qrels = {}
    for path in _qrels_files(folder):
        for query_id, judged in read_qrels(path).items():
            grades = joined.setdefault(query_id, {})
            for doc_id, grade in judged.items():
                grades[doc_id] = max(grade, grades.get(doc_id, grade))
    return joined


def _fingerprint(folder: Path, pool: Pool, options: MiningOptions) -> str:
    sources = [*_qrels_files(folder), find_beir_file(folder, "queries")]
    if options.groups:
        groups = Path(options.groups)
        sources += sorted(groups.glob("*.jsonl*")) if groups.is_dir() else [groups]
    plan: dict[str, Any] = asdict(options) | {
        "version": _VERSION,
        "files": [files.sha256_of(path) for path in sources if path is not None],
        "index": hashlib.sha256(pool.index.manifest.to_json().encode()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
