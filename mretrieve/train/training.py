"""The stages that train a student: several objectives mixed in every step, resumed where it stopped."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mretrieve.errors import InputError
from mretrieve.files import remove
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.objectives import Objective
from mretrieve.train.recipe import VOLATILE, Stage
from mretrieve.train.sets import load_set, negative_columns
from mretrieve.train.tuning import Tuning, tuning_inputs

if TYPE_CHECKING:
    from mretrieve.train.trainer import RecipeTrainer

logger = logging.getLogger(__name__)

_WHOLE = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "model.safetensors")
"""What a checkpoint needs to be resumed; a killed process may have left one without."""


class Training(Stage):
    """Parameters of all stages that train a student.

    `model` is the student, `teacher` the frozen model that objectives may ask. `learning_rates` are by
    pattern (regular expression) of parameter names, `freeze` by pattern as in file names. `warmup` and
    `decay` are shares of `steps`; `wsd` stays at the top rate between them. `mini_batch` caches gradients,
    so that a batch may be larger than memory allows. `router_aux` and `router_z` weigh the routers' losses.
    `choose: best` takes the checkpoint with the best tuning score in place of the last one.
    """

    preset: ClassVar[Mapping[str, Any]] = {}
    """What each objective has that does not say otherwise; in a recipe null takes it away."""

    model: str
    teacher: str | None = "e5-small"
    objectives: Annotated[dict[str, Objective], Field(min_length=1)]
    steps: Annotated[int, Field(gt=0)]
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    learning_rates: dict[str, float] = {}
    schedule: Literal["linear", "cosine", "constant", "wsd"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_gradient: Annotated[float, Field(gt=0)] = 1.0
    max_tokens: Annotated[int, Field(gt=2)] = 160
    bf16: bool = True
    unpadded: bool = True
    mini_batch: Annotated[int, Field(gt=0)] | None = None
    gradient_checkpointing: bool = False
    matryoshka: list[Annotated[int, Field(gt=0)]] = []
    freeze: list[str] = ["embeddings.*"]
    head: bool = False
    router_aux: Annotated[float, Field(ge=0)] = 0.01
    router_z: Annotated[float, Field(ge=0)] = 0.0
    tuning: Tuning | None = None
    choose: Literal["last", "best"] = "last"
    save_every: Annotated[int, Field(gt=0, json_schema_extra=VOLATILE)] = 200
    log_every: Annotated[int, Field(gt=0, json_schema_extra=VOLATILE)] = 10
    keep: Annotated[int, Field(gt=0, json_schema_extra=VOLATILE)] = 2

    def inputs(self) -> list[str]:
        """Student, teacher and data."""
        models = [self.model] if self.teacher is None else [self.model, self.teacher]
        return [*models, *(one.data for one in self.objectives.values()), *tuning_inputs(self.tuning)]

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, content: Any) -> Any:
        objectives = content.get("objectives") if isinstance(content, dict) else None
        if not cls.preset or not isinstance(objectives, dict):
            return content
        return content | {"objectives": {name: _under(one, cls.preset) for name, one in objectives.items()}}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.choose == "best" and self.tuning is None:
            raise ValueError("choose: best needs tuning scores: give tuning")
        asking = [name for name, one in self.objectives.items() if one.needs_teacher]
        if asking and self.teacher is None:
            raise ValueError(f"the objective '{asking[0]}' needs a teacher: give one")
        return self


def _under(given: Any, preset: Mapping[str, Any]) -> Any:
    """What is given, and below it, at every depth, the preset where nothing is given."""
    if not isinstance(given, dict):
        return given
    inner = {
        key: _under(given[key], value)
        for key, value in preset.items()
        if key in given and isinstance(value, dict)
    }
    return {**preset, **given, **inner}


class TrainStage(Training):
    """Any mix of objectives."""

    stage: Literal["train"]


_ALL_WAYS = ["query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"]


class AlignStage(Training):
    """Parallel text: translations find each other in all directions, and meet the teacher's English.

    Roy et al., 2020 (arXiv:2004.05484) and Reimers & Gurevych, 2020 (arXiv:2004.09813).
    """

    stage: Literal["align"]
    preset: ClassVar[Mapping[str, Any]] = {
        "batching": {"languages": "balanced", "per_batch": 10},
        "prompts": [["passage", "passage"], ["query", "passage"], ["query", "query"]],
        "ranking": {"directions": _ALL_WAYS},
        "targets": {},
    }


class ContrastiveStage(Training):
    """Questions and passages, of several languages in a batch; what the teacher finds as near is masked."""

    stage: Literal["contrastive"]
    preset: ClassVar[Mapping[str, Any]] = {
        "batching": {"languages": "balanced"},
        "ranking": {"margin": 0.0},
    }


def run_train(stage: Training, context: StageContext) -> StageResult:
    """Train, and write `NAME/model`; checkpoints lie in `NAME/checkpoints`.

    Raises:
        InputError: data or models are missing or do not fit, or a loss was no number; then the newest
            checkpoint stays, and the message names it.
    """
    from transformers.utils import logging as transformers_logging

    from mretrieve.train.assemble import make_trainer
    from mretrieve.train.student import save_student
    from mretrieve.train.trainer import BestWeights

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    data = {name: load_set(one.data, context, _columns(one)) for name, one in stage.objectives.items()}
    checkpoints = context.folder / "checkpoints"
    newest = newest_checkpoint(checkpoints, clean=context.is_main)
    best = None
    if stage.choose == "best":
        best = BestWeights(context.folder / "best", is_main=context.is_main, fresh=newest is None)
    trainer = make_trainer(stage, context, data, best)
    train_from(trainer, newest, stage.name)
    scores, details = _scores_of(trainer, -1), {"steps": trainer.state.global_step}
    if best is not None:
        scores, details = _scores_of(trainer, best.step), details | {"best_step": best.step}
    if context.is_main:
        if best is not None:
            best.put_into(trainer.model)
        source = context.model_name(stage.model)
        save_student(trainer.model, context.folder / "model", source=source, matryoshka=stage.matryoshka)
        remove(context.folder / "best")
        for path in checkpoints.glob("checkpoint-*/optimizer.pt"):
            remove(path)  # the largest part, of use to a resumed run only
    return StageResult(scores, details)


def train_from(trainer: Any, newest: Path | None, name: str) -> None:
    """Train to the end from a checkpoint, or from the start.

    Raises:
        InputError: a loss or a gradient was no number.
    """
    from mretrieve.train.trainer import NoNumberError

    if newest is not None:
        logger.info("Stage '%s' goes on from %s.", name, newest)
    try:
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    except NoNumberError as error:
        last = newest_checkpoint(Path(trainer.args.output_dir), clean=False)
        kept = f"The last good checkpoint is {last}" if last else "There is no checkpoint yet"
        raise InputError(
            f"Stage '{name}' stopped. {error} {kept}; a smaller learning_rate may help, or leaving the "
            "examples out."
        ) from error


def _columns(objective: Objective) -> list[str]:
    """What an objective needs of its data set."""
    scores = ["scores"] if objective.scores else []
    return ["anchor", "positive", *negative_columns(objective.negatives), *scores]


def newest_checkpoint(folder: Path, *, clean: bool) -> Path | None:
    """The newest whole checkpoint; with `clean`, those that were cut off are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if all((path / name).is_file() for name in _WHOLE):
            whole.append(path)
        elif clean:
            remove(path)
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def _scores_of(trainer: "RecipeTrainer", step: int) -> dict[str, float]:
    """The tuning scores at a step; -1: the last ones."""
    entries = [entry for entry in trainer.state.log_history if "eval_score" in entry]
    chosen = [entry for entry in entries if step in (-1, entry["step"])]
    return {
        name.removeprefix("eval_"): round(value, 5)
        for name, value in (chosen[-1] if chosen else {}).items()
        if name.startswith("eval_") and not name.endswith(("runtime", "per_second"))
    }
