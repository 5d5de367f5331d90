"""The stage `sentences`: questions with the sentences that answer them, out of questions with passages.

Inside one language and across all pairs of languages, with the other sentences of the same passages as hard
negatives; beside them the parallel answer sentences as parallel text, and a pool of sentences to tune by.
"""

import json
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mretrieve.datasets.source import open_source
from mretrieve.datasets.xquad import write_beir
from mretrieve.errors import InputError
from mretrieve.files import remove
from mretrieve.train.answers import (
    SAME,
    Answer,
    Asked,
    SentencePool,
    all_pairs,
    find_answers,
    gather,
    group_names,
    hard_negatives,
    held_out_sentences,
)
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.data import DataStage, RetrievalSet, evaluated_by, licences_of, source_of
from mretrieve.train.leakage import normalize
from mretrieve.train.pairs import COLUMNS, Pair
from mretrieve.train.recipe import Stage
from mretrieve.train.sets import Rows, load_set, set_names, write_rows
from mretrieve.types import Document

if TYPE_CHECKING:
    from mretrieve.train.kept_vectors import KeptVectors

logger = logging.getLogger(__name__)

POOL = "held-out"
"""Folder of the pool to tune by, in the BEIR layout with the split `dev`."""


class SentencesStage(Stage):
    """Parameters of the stage.

    `data` are retrieval sets of a stage `data`. `model` chooses the answers: no answer is marked, so it is
    the sentence nearest to the question in its own language and to those of the passages in the other
    languages. It has to lead the passage's other sentences by `margin`. `same` finds parallel questions by
    their ids. Of each folder at most `per_source` questions are taken, and `negatives` wrong sentences for
    each pair. `held_out` is a folder like `train/multi-mlqa` below the data's root: of its held-out groups
    at most `held_out_groups` become the pool to tune by.
    """

    stage: Literal["sentences"]
    data: Annotated[list[str], Field(min_length=1)]
    model: str = "e5-small"
    margin: Annotated[float, Field(ge=0)] = 0.02
    same: str = SAME
    per_source: Annotated[int, Field(gt=0)] | None = None
    negatives: Annotated[int, Field(gt=0)] = 2
    held_out: str | None = None
    held_out_groups: Annotated[int, Field(gt=0)] = 80

    def inputs(self) -> list[str]:
        """Sets and the model."""
        return [*self.data, self.model]


def run_sentences(stage: SentencesStage, context: StageContext) -> StageResult:
    """Write each set anew with sentences, `NAME/parallel`, and `NAME/held-out` where it was asked for.

    Raises:
        InputError: a set is none of questions and passages, no answer was found, or a sentence is evaluated
            on.
    """
    from mretrieve.train.kept_vectors import KeptVectors

    names = set_names(stage.data, stage.name)
    sources = {name: _source(address, context) for name, address in names.items()}
    vectors = KeptVectors(context.model_name(stage.model), context)
    reports: dict[str, dict[str, int]] = {}
    parallel: Rows = []
    for name, data in sources.items():
        asked = _asked(stage, names[name], context.input_path(data.root), context)
        answers = find_answers(asked, vectors.embed, margin=stage.margin)
        answers, leaks = _without_leaks(asked, answers, data, context)
        groups = group_names(asked, answers)
        rows, reports[name] = _rows(stage, asked, answers, groups, seed=context.seed)
        reports[name]["leaks"] = leaks
        if not rows:
            raise InputError(f"Stage '{stage.name}' found no answer sentences for '{names[name]}'.")
        write_rows(rows, context.folder / name)
        parallel += _parallel(asked, answers, groups)
        _write_licences(context, rows, context.input_path(data.root), name)
    if parallel:
        write_rows(parallel, context.folder / "parallel")
    if stage.held_out is not None:
        reports[POOL] = _write_pool(stage, next(iter(sources.values())), vectors, context)
    text = json.dumps(reports, indent=1) + "\n"
    (context.folder / "sentences.json").write_text(text, encoding="utf-8")
    remove(vectors.folder)
    return StageResult(details={"sets": reports, "parallel": len(parallel)})


def _source(address: str, context: StageContext) -> DataStage:
    found = source_of(address, context.recipe)
    if found is None or not isinstance(found[1], RetrievalSet):
        raise InputError(
            f"Stage '{context.stage.name}' looks for answers in '{address}', which is no set of "
            "`kind: retrieval` of a stage `data`."
        )
    return found[0]


def _asked(stage: SentencesStage, address: str, root: Path, context: StageContext) -> list[Asked]:
    """The questions of a set, of each source at most so many, by chance."""
    rows = load_set(address, context, ["anchor", "anchor_id", "positive_id", "language", "source"])
    rows = rows.remove_columns("positive")
    documents = {
        source: {document.doc_id: document for document in open_source(root / source).documents()}
        for source in dict.fromkeys(rows["source"])
    }
    by_source: dict[str, list[Asked]] = defaultdict(list)
    for one in gather(rows, documents, same=stage.same):
        by_source[one.source].append(one)
    draw = random.Random(context.seed)
    chosen: list[Asked] = []
    for own in by_source.values():
        n = len(own) if stage.per_source is None else min(stage.per_source, len(own))
        chosen += draw.sample(own, n)
    return chosen


def _without_leaks(
    asked: Sequence[Asked], answers: Sequence[list[Answer]], data: DataStage, context: StageContext
) -> tuple[list[list[Answer]], int]:
    """The answers whose passage has no sentence that is evaluated on, and how many others there were.

    The passages themselves have been compared by the stage `data`; a single sentence may still be equal.
    """
    evaluated = evaluated_by(data, context.input_path(data.root), context)
    texts: dict[str, dict[str, None]] = defaultdict(dict)
    for one in asked:
        for passage in one.passages:
            texts[passage.language] |= dict.fromkeys(passage.sentences)
    leaks: set[tuple[str, str]] = set()
    for language, own in texts.items():
        reasons = evaluated.leaks(language, [normalize(text) for text in own])
        leaks |= {(language, text) for text, reason in zip(own, reasons, strict=True) if reason}
    kept, dropped = [], 0
    for found in answers:
        clean = [a for a in found if not leaks & {(a.passage.language, s) for s in a.passage.sentences}]
        kept.append(clean)
        dropped += len(found) - len(clean)
    if dropped and data.on_leak == "fail":
        raise InputError(
            f"Stage '{context.stage.name}' found {dropped} answers in passages with a sentence that is "
            f"evaluated on, such as {next(iter(leaks))[1]!r}: take them out of their folders, or drop them "
            f"with `on_leak: drop` in '{data.name}'."
        )
    return kept, dropped


def _rows(
    stage: SentencesStage,
    asked: Sequence[Asked],
    answers: Sequence[Sequence[Answer]],
    groups: Sequence[str],
    *,
    seed: int,
) -> tuple[Rows, dict[str, int]]:
    """Every question with every answer sentence; and counts."""
    draw = random.Random(seed)
    spare: dict[str, list[str]] = defaultdict(list)
    for own in answers:
        for answer in own:
            spare[answer.passage.language] += answer.other_texts()
    counts: Counter[str] = Counter(questions=len(asked), answered=sum(map(bool, answers)))
    rows: Rows = []
    for one, own, group in zip(asked, answers, groups, strict=True):
        for query in one.questions:
            for answer in own:
                negatives = hard_negatives(query, answer, own)[: stage.negatives]
                pool = spare[answer.passage.language]
                while len(negatives) < stage.negatives and pool:
                    counts["negatives of other passages"] += 1
                    negatives.append((draw.choice(pool), answer.passage.language))
                if len(negatives) < stage.negatives:
                    counts["without negatives"] += 1
                    continue
                pair = Pair(
                    query.text,
                    answer.text,
                    query.lang,
                    answer.passage.language,
                    one.source,
                    query.query_id,
                    answer.name,
                    group,
                )
                rows.append(_row(pair) | dict(_negatives(negatives)))
    return rows, dict(counts) | {"pairs": len(rows)}


def _row(pair: Pair) -> dict[str, Any]:
    return {name: getattr(pair, name) for name in COLUMNS}


def _negatives(chosen: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    for place, (text, _) in enumerate(chosen, start=1):
        yield f"negative_{place}", text
    yield "negative_languages", [language for _, language in chosen]


def _parallel(asked: Sequence[Asked], answers: Sequence[Sequence[Answer]], groups: Sequence[str]) -> Rows:
    """Answer sentences that say the same in two languages, each pair once in each order."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one, own, group in zip(asked, answers, groups, strict=True):
        english = next((answer.text for answer in own if answer.passage.language == "en"), "")
        for first, second in all_pairs(own):
            pair = Pair(
                first.text,
                second.text,
                first.passage.language,
                second.passage.language,
                one.source,
                first.name,
                second.name,
                group,
                english,
            )
            rows.setdefault((first.text, second.text), _row(pair))
    return list(rows.values())


def _write_licences(context: StageContext, rows: Rows, root: Path, name: str) -> None:
    licences = licences_of(root, {row["source"] for row in rows})
    text = json.dumps(licences, indent=1, ensure_ascii=False) + "\n"
    (context.folder / f"licences-{name}.json").write_text(text, encoding="utf-8")


def _write_pool(
    stage: SentencesStage, data: DataStage, vectors: "KeptVectors", context: StageContext
) -> dict[str, int]:
    assert stage.held_out is not None
    root = context.input_path(data.root)
    if not (root / stage.held_out).is_dir():
        raise InputError(f"Stage '{stage.name}': held_out names {root / stage.held_out}, which is not there.")
    pool = held_out_sentences(
        root / stage.held_out, vectors.embed, groups=stage.held_out_groups, margin=stage.margin
    )
    write_pool(pool, context.folder / POOL)
    return {"questions": len(pool.queries), "sentences": len(pool.documents)}


def write_pool(pool: SentencePool, folder: Path) -> None:
    """Write a pool as a BEIR folder."""
    write_beir(
        folder,
        map(_record, pool.documents),
        ({"_id": one.query_id, "text": one.text, "lang": one.lang} for one in pool.queries),
        ((query_id, doc_id) for query_id, judged in pool.qrels.items() for doc_id in judged),
        split="dev",
    )


def _record(document: Document) -> dict[str, str]:
    return {"_id": document.doc_id, "title": "", "text": document.text, "lang": document.lang}
