"""The stage `teach`: a cross-encoder scores the candidates of questions; it may be trained here first."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mretrieve.errors import InputError
from mretrieve.files import atomic_file, remove
from mretrieve.languages import normalize_language
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.recipe import VOLATILE, Part, Stage
from mretrieve.train.sets import load_set, negative_columns, set_names, write_set
from mretrieve.types import Document, Query

if TYPE_CHECKING:
    from datasets import Dataset

    from mretrieve.mine.scorers import CrossEncoderScorer

logger = logging.getLogger(__name__)

_AT_ONCE = 1024  # examples whose scores are kept together; so many a killed run scores again


class TeacherTraining(Part):
    """How a cross-encoder is trained, by sentence-transformers' trainer.

    `base` is any transformers encoder. `binary` tells positives from negatives one by one, `ranking` sets a
    positive above its own negatives and the batch's.
    """

    base: str = "e5-small"
    data: Annotated[list[str], Field(min_length=1)]
    negatives: Annotated[int, Field(gt=0)] = 4
    loss: Literal["binary", "ranking"] = "binary"
    steps: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_tokens: Annotated[int, Field(gt=4)] = 256
    bf16: bool = True
    save_every: Annotated[int, Field(gt=0, json_schema_extra=VOLATILE)] = 200
    log_every: Annotated[int, Field(gt=0, json_schema_extra=VOLATILE)] = 10


class TeachStage(Stage):
    """Parameters of the stage.

    Either `teacher` is a cross-encoder by hub id or folder, or `train` says how to make one. It scores the
    positives and the first `negatives` negatives of the sets in `data`, only those examples whose question
    and passages are in `languages`: the ones that it knows; with `same_language` all of them in one.
    """

    stage: Literal["teach"]
    data: Annotated[list[str], Field(min_length=1)]
    teacher: str | None = None
    train: TeacherTraining | None = None
    negatives: Annotated[int, Field(gt=0)] = 7
    languages: list[str] | None = None
    same_language: bool = False
    batch_size: Annotated[int, Field(gt=0, json_schema_extra=VOLATILE)] = 64

    def inputs(self) -> list[str]:
        """Sets and models."""
        given = [self.teacher] if self.teacher else []
        return [*self.data, *given, *([self.train.base, *self.train.data] if self.train else [])]

    @model_validator(mode="after")
    def _has_one_teacher(self) -> Self:
        if (self.teacher is None) == (self.train is None):
            raise ValueError("give a teacher, or say under train how to make one; not both")
        return self


def run_teach(stage: TeachStage, context: StageContext) -> StageResult:
    """Score, and write each set with `scores`: of the positive, then of its negatives, as logits.

    Raises:
        InputError: a set or the teacher is missing, or it cannot score pairs.
    """
    from mretrieve.mine.scorers import CrossEncoderScorer

    names = set_names(stage.data, stage.name)
    if stage.train is not None:
        from mretrieve.train.reranker import train_reranker

        train_reranker(stage.train, context, context.folder / "teacher")
        name = str(context.folder / "teacher")
    else:
        assert stage.teacher is not None
        name = context.model_name(stage.teacher)
    if not context.is_main:
        return StageResult()
    teacher = CrossEncoderScorer(name, device=context.device, batch_size=stage.batch_size)
    details: dict[str, Any] = {"examples": {}}
    right = total = 0
    for set_name, address in names.items():
        columns = ["anchor", "positive", "negative_languages", *negative_columns(stage.negatives)]
        data = _in_languages(load_set(address, context, columns), stage, address)
        scores = _score(data, teacher, stage, context, set_name)
        written = data.to_dict()
        written["negative_languages"] = [own[: stage.negatives] for own in written["negative_languages"]]
        write_set(written | {"scores": scores.tolist()}, context.folder / set_name)
        details["examples"][set_name] = len(data)
        right += int((scores[:, 0] > scores[:, 1:].max(axis=1)).sum())
        total += len(data)
    remove(context.folder / "work")
    return StageResult({"positive_first": round(right / total, 5)}, details)


def _in_languages(data: "Dataset", stage: TeachStage, address: str) -> "Dataset":
    """The examples that are wholly in the teacher's languages."""
    if stage.languages is None and not stage.same_language:
        return data
    known = None if stage.languages is None else {normalize_language(code) for code in stage.languages}
    negatives = [own[: stage.negatives] for own in data["negative_languages"][:]]
    columns = zip(data["language"][:], data["positive_language"][:], negatives, strict=True)
    languages = [{one, other, *more} for one, other, more in columns]
    rows = [
        row
        for row, own in enumerate(languages)
        if (known is None or own <= known) and (len(own) == 1 or not stage.same_language)
    ]
    if not rows:
        wanted = "one language" if known is None else ", ".join(sorted(known))
        raise InputError(
            f"Stage '{stage.name}' is to score '{address}' in {wanted}, but no example of it is wholly in "
            "that: leave `languages` or `same_language` out, or mine in one language."
        )
    logger.info("Stage '%s' scores %d of the %d examples of '%s'.", stage.name, len(rows), len(data), address)
    return data.select(rows)


def _score(
    data: "Dataset", teacher: "CrossEncoderScorer", stage: TeachStage, context: StageContext, name: str
) -> NDArray[np.float32]:
    """(n, 1 + negatives) float32; parts that a killed run has scored are not scored again."""
    columns = ["positive", *negative_columns(stage.negatives)]
    parts = []
    for start in range(0, len(data), _AT_ONCE):
        context.on_progress(f"{stage.name}: {name}", start, len(data))
        path = context.folder / "work" / f"{name}-{start}.npy"
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            rows = data[start : start + _AT_ONCE]
            part = _logits(teacher, rows["anchor"], [rows[column] for column in columns])
            with atomic_file(path) as file:
                np.save(file, part)
        parts.append(np.load(path))
    return np.concatenate(parts)


def _logits(
    teacher: "CrossEncoderScorer", questions: Sequence[str], columns: Sequence[Sequence[str]]
) -> NDArray[np.float32]:
    queries = [Query(str(row), text) for row, text in enumerate(questions)]
    documents = [[Document("", text) for text in own] for own in zip(*columns, strict=True)]
    shares = np.stack(teacher.score(queries, documents)).astype(np.float64)
    # The scorer gives probabilities; what KL wants is what stood before, which float32 still tells apart.
    shares = shares.clip(1e-7, 1 - 1e-7)
    return np.log(shares / (1 - shares)).astype(np.float32)
