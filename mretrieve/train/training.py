"""The stage `train`: one model, several objectives mixed in every step, resumed where it stopped."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mretrieve.errors import InputError
from mretrieve.files import remove
from mretrieve.train.context import StageContext, StageResult, world_size
from mretrieve.train.objectives import Objective, Role
from mretrieve.train.recipe import VOLATILE, Stage
from mretrieve.train.tuning import Tuning

if TYPE_CHECKING:
    from datasets import Dataset

    from mretrieve.train.batches import Batches
    from mretrieve.train.trainer import RecipeTrainer, RunBatches

logger = logging.getLogger(__name__)

_WHOLE = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "model.safetensors")
"""What a checkpoint needs to be resumed; a killed process may have left one without."""


class TrainStage(Stage):
    """Parameters of the stage.

    `model` is the student, `teacher` the frozen model that objectives may ask. `learning_rates` are by
    pattern (regular expression) of parameter names, `freeze` by pattern as in file names. `warmup` and
    `decay` are shares of `steps`; `wsd` stays at the top rate between them. `mini_batch` caches gradients,
    so that a batch may be larger than memory allows. `router_aux` and `router_z` weigh the routers' losses.
    `choose: best` takes the checkpoint with the best tuning score in place of the last one.
    """

    stage: Literal["train"]
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
        return [*models, *(one.data for one in self.objectives.values())]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.choose == "best" and self.tuning is None:
            raise ValueError("choose: best needs tuning scores: give tuning")
        asking = [name for name, one in self.objectives.items() if one.needs_teacher]
        if asking and self.teacher is None:
            raise ValueError(f"the objective '{asking[0]}' needs a teacher: give one")
        return self


def run_train(stage: TrainStage, context: StageContext) -> StageResult:
    """Train, and write `NAME/model`; checkpoints lie in `NAME/checkpoints`.

    Raises:
        InputError: data or models are missing or do not fit, or a loss was no number; then the newest
            checkpoint stays, and the message names it.
    """
    from transformers.utils import logging as transformers_logging

    from mretrieve.train.student import save_student
    from mretrieve.train.trainer import NoNumberError

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    data = {name: _load(one.data, context, one) for name, one in stage.objectives.items()}
    trainer = _trainer(stage, context, data)
    checkpoints = context.folder / "checkpoints"
    newest = _newest_checkpoint(checkpoints, clean=context.is_main)
    if newest is not None:
        logger.info("Stage '%s' goes on from %s.", stage.name, newest)
    try:
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    except NoNumberError as error:
        last = _newest_checkpoint(checkpoints, clean=False)
        kept = f"The last good checkpoint is {last}" if last else "There is no checkpoint yet"
        raise InputError(
            f"Stage '{stage.name}' stopped. {error} {kept}; a smaller learning_rate may help, or leaving the "
            "examples out."
        ) from error
    scores = _last_scores(trainer, best=stage.choose == "best")
    if context.is_main:
        save_student(trainer.model, context.folder / "model", source=context.model_name(stage.model))
        for path in checkpoints.glob("checkpoint-*/optimizer.pt"):
            remove(path)  # the largest part, of use to a resumed run only
    return StageResult(scores, {"steps": trainer.state.global_step})


def _load(address: str, context: StageContext, objective: Objective) -> "Dataset":
    from datasets import load_from_disk

    path = context.input_path(address)
    if not (path / "dataset_info.json").is_file():
        raise InputError(f"{path} is no data set that a stage has written: give STAGE/SET.")
    data = load_from_disk(str(path))
    needed = ["anchor", "positive", *(f"negative_{i}" for i in range(1, objective.negatives + 1))]
    needed += ["scores"] if objective.scores else []
    if missing := [name for name in needed if name not in data.column_names]:
        raise InputError(
            f"'{address}' lacks {', '.join(missing)}, which its objective needs; it has "
            f"{', '.join(data.column_names)}."
        )
    return data


def _trainer(stage: TrainStage, context: StageContext, data: Mapping[str, "Dataset"]) -> "RecipeTrainer":
    from datasets import DatasetDict

    from mretrieve.encode.checkpoint import find_checkpoint
    from mretrieve.train.collator import Collator
    from mretrieve.train.losses import build_loss
    from mretrieve.train.student import RouterLoss, freeze, inner_model, load_student, prepare
    from mretrieve.train.teacher import Teacher
    from mretrieve.train.trainer import RecipeTrainer, Watch

    name = context.model_name(stage.model)
    checkpoint = find_checkpoint(name)
    student = load_student(name, max_tokens=stage.max_tokens, device=context.device, head=stage.head)
    router_loss = RouterLoss(scale=1 / sum(one.per_step for one in stage.objectives.values()))
    coefficients = {"router_aux_loss_coef": stage.router_aux, "router_z_loss_coef": stage.router_z}
    prepare(student, unpadded=stage.unpadded, router_loss=router_loss, coefficients=coefficients)
    logger.info("Stage '%s' trains %d parameters.", stage.name, freeze(student, stage.freeze))
    if stage.gradient_checkpointing:
        # transformers renames this, with a warning for the old name; the trainer's argument uses the old one.
        inner: Any = inner_model(student)
        new = getattr(inner, "activation_checkpointing_enable", None)
        (new or inner.gradient_checkpointing_enable)()
    teacher = None
    if stage.teacher is not None and any(one.needs_teacher for one in stage.objectives.values()):
        teacher = Teacher(context.model_name(stage.teacher), device=context.device)
        if teacher.dim != student.get_embedding_dimension():
            raise InputError(
                f"The teacher {stage.teacher} has {teacher.dim} dimensions and the student "
                f"{student.get_embedding_dimension()}: give a teacher of the same length."
            )
    prompts: dict[Role, str] = {
        "query": checkpoint.query_prefix,
        "passage": checkpoint.document_prefix,
    }
    losses = {
        key: build_loss(student, one, mini_batch=stage.mini_batch, matryoshka=stage.matryoshka)
        for key, one in stage.objectives.items()
    }
    watch = Watch(
        context.folder, stage.name, context.on_progress, router_loss, losses, is_main=context.is_main
    )
    return RecipeTrainer(
        model=student,
        args=_arguments(stage, context),
        train_dataset=DatasetDict(data),
        loss=losses,
        order=_order(stage, context.seed, data),
        evaluator=_evaluator(stage, context, prompts),
        data_collator=Collator(student, stage.objectives, prompts, teacher),
        callbacks=[watch],
    )


def _arguments(stage: TrainStage, context: StageContext) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments

    kinds = {"wsd": "warmup_stable_decay", "constant": "constant_with_warmup"}
    warmup = round(stage.warmup * stage.steps)
    extra: dict[str, Any] = {}
    if stage.schedule == "wsd":
        extra = {"num_decay_steps": max(round(stage.decay * stage.steps), 1)}
    return SentenceTransformerTrainingArguments(
        output_dir=str(context.folder / "checkpoints"),
        max_steps=stage.steps,
        gradient_accumulation_steps=sum(one.per_step for one in stage.objectives.values()),
        learning_rate=stage.learning_rate,
        learning_rate_mapping=stage.learning_rates,
        lr_scheduler_type=kinds.get(stage.schedule, stage.schedule),
        lr_scheduler_kwargs=extra,
        warmup_steps=warmup,
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_gradient,
        optim="adamw_torch_fused",
        bf16=stage.bf16,
        use_cpu=context.device == "cpu",
        logging_steps=stage.log_every,
        logging_nan_inf_filter=False,
        save_steps=stage.save_every,
        save_total_limit=stage.keep,
        eval_strategy="no" if stage.tuning is None else "steps",
        eval_steps=None if stage.tuning is None else stage.tuning.every,
        eval_on_start=stage.tuning is not None,
        seed=context.seed,
        data_seed=context.seed,
        dataloader_pin_memory=context.device != "cpu",
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
    )


def _order(stage: TrainStage, seed: int, data: Mapping[str, "Dataset"]) -> Callable[[Any], "RunBatches"]:
    """What makes the batches of the run."""
    from mretrieve.train.trainer import RunBatches

    per_step = {name: one.per_step for name, one in stage.objectives.items()}
    make = partial(_batches, stage, seed, data)
    return lambda dataset: RunBatches(dataset, make, per_step, steps=stage.steps, processes=world_size())


def _batches(stage: TrainStage, seed: int, data: Mapping[str, "Dataset"]) -> dict[str, "Batches"]:
    """The batches of every data set, from the run's first one on."""
    from mretrieve.train.batches import Batches, Examples

    batches = {}
    for number, (name, objective) in enumerate(stage.objectives.items()):
        table = data[name]
        anchors, positives = table["anchor"][:], table["positive"][:]
        examples = Examples(
            languages=list(zip(table["language"][:], table["positive_language"][:], strict=True)),
            sources=table["source"][:],
            groups=table["group"][:],
            anchors=anchors,
            lengths=[len(a) + len(p) for a, p in zip(anchors, positives, strict=True)],
        )
        batches[name] = Batches(
            examples,
            size=objective.batch_size,
            batching=objective.batching,
            mix=objective.mix,
            seed=seed + number,
            total=stage.steps * objective.per_step * world_size(),
        )
    return batches


def _evaluator(stage: TrainStage, context: StageContext, prompts: Mapping[Role, str]) -> Any:
    """What the trainer calls for tuning scores, or None."""
    if stage.tuning is None:
        return None
    from sentence_transformers.base.evaluation import BaseEvaluator

    from mretrieve.train.data import _folders
    from mretrieve.train.tuning import make_pools, score_pools

    root = context.input_path(stage.tuning.root)
    folders = _folders(root, stage.tuning.folders)
    pools = make_pools(stage.tuning, root, folders)

    class Evaluator(BaseEvaluator):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]

        def __call__(self, model: Any, *_: Any, **__: Any) -> dict[str, float]:
            import torch

            model.eval()
            with torch.autocast(context.device, torch.bfloat16, enabled=stage.bf16):
                return score_pools(model, pools, prompts)

    return Evaluator()


def _newest_checkpoint(folder: Path, *, clean: bool) -> Path | None:
    """The newest whole checkpoint; with `clean`, those that were cut off are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if all((path / name).is_file() for name in _WHOLE):
            whole.append(path)
        elif clean:
            remove(path)
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def _last_scores(trainer: "RecipeTrainer", *, best: bool) -> dict[str, float]:
    entries = [entry for entry in trainer.state.log_history if "eval_score" in entry]
    if not entries:
        return {}
    del best
    return {
        name.removeprefix("eval_"): round(value, 5)
        for name, value in entries[-1].items()
        if name.startswith("eval_") and not name.endswith(("runtime", "per_second"))
    }
