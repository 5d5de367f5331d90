"""Put together what sentence-transformers' trainer needs: student, losses, batches, tuning scores."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.errors import InputError
from mretrieve.train.collator import Collator
from mretrieve.train.context import StageContext, world_size
from mretrieve.train.losses import build_loss
from mretrieve.train.objectives import Role
from mretrieve.train.student import RouterLoss, freeze, inner_model, load_student, prepare
from mretrieve.train.teacher import Teacher
from mretrieve.train.trainer import BestWeights, RecipeTrainer, Watch

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from mretrieve.train.batches import Batches
    from mretrieve.train.trainer import RunBatches
    from mretrieve.train.training import Training
    from mretrieve.train.tuning import Tuning

logger = logging.getLogger(__name__)


def make_trainer(
    stage: "Training", context: StageContext, data: "Mapping[str, Dataset]", best: BestWeights | None
) -> RecipeTrainer:
    """The trainer of a stage.

    Args:
        stage: its parameters.
        context: its surroundings.
        data: by objective.
        best: keeps the weights with the best tuning score, where they are asked for.

    Raises:
        InputError: models are missing or do not fit.
    """
    from datasets import DatasetDict

    router_loss = RouterLoss(scale=1 / sum(one.per_step for one in stage.objectives.values()))
    student = _student(stage, context, router_loss)
    prompts = prompts_of(context.model_name(stage.model))
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
        train_dataset=DatasetDict(dict(data)),
        loss=losses,
        order=_order(stage, context.seed, data),
        evaluator=_evaluator(stage, context, prompts),
        data_collator=Collator(student, stage.objectives, prompts, _teacher(stage, context, student)),
        callbacks=[watch, *([best] if best is not None else [])],
    )


def prompts_of(model: str) -> dict[Role, str]:
    """What texts of each role begin with for a model."""
    checkpoint = find_checkpoint(model)
    return {"query": checkpoint.query_prefix, "passage": checkpoint.document_prefix}


def _student(stage: "Training", context: StageContext, router_loss: RouterLoss) -> "SentenceTransformer":
    name = context.model_name(stage.model)
    student = load_student(name, max_tokens=stage.max_tokens, device=context.device, head=stage.head)
    coefficients = {"router_aux_loss_coef": stage.router_aux, "router_z_loss_coef": stage.router_z}
    prepare(student, unpadded=stage.unpadded, router_loss=router_loss, coefficients=coefficients)
    logger.info("Stage '%s' trains %d parameters.", stage.name, freeze(student, stage.freeze))
    if stage.gradient_checkpointing:
        # transformers renames this, with a warning for the old name; the trainer's argument uses the old one.
        inner: Any = inner_model(student)
        new = getattr(inner, "activation_checkpointing_enable", None)
        (new or inner.gradient_checkpointing_enable)()
    return student


def _teacher(stage: "Training", context: StageContext, student: "SentenceTransformer") -> Teacher | None:
    if stage.teacher is None or not any(one.needs_teacher for one in stage.objectives.values()):
        return None
    teacher = Teacher(context.model_name(stage.teacher), device=context.device)
    if teacher.dim != student.get_embedding_dimension():
        raise InputError(
            f"The teacher {stage.teacher} has {teacher.dim} dimensions and the student "
            f"{student.get_embedding_dimension()}: give a teacher of the same length."
        )
    return teacher


def _arguments(stage: "Training", context: StageContext) -> Any:
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


def _order(stage: "Training", seed: int, data: "Mapping[str, Dataset]") -> "Callable[[Any], RunBatches]":
    """What makes the batches of the run."""
    from mretrieve.train.trainer import RunBatches

    per_step = {name: one.per_step for name, one in stage.objectives.items()}
    make = partial(_batches, stage, seed, data)
    return lambda dataset: RunBatches(dataset, make, per_step, steps=stage.steps, processes=world_size())


def _batches(stage: "Training", seed: int, data: "Mapping[str, Dataset]") -> "dict[str, Batches]":
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
            positives=positives,
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


def _evaluator(stage: "Training", context: StageContext, prompts: Mapping[Role, str]) -> Any:
    """What the trainer calls for tuning scores, or None."""
    if stage.tuning is None:
        return None
    from sentence_transformers.base.evaluation import BaseEvaluator

    score = scorer(stage.tuning, context, prompts, bf16=stage.bf16)

    class Evaluator(BaseEvaluator):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]

        def __call__(self, model: Any, *_: Any, **__: Any) -> dict[str, float]:
            return score(model)

    return Evaluator()


def scorer(
    tuning: "Tuning", context: StageContext, prompts: Mapping[Role, str], *, bf16: bool
) -> Callable[[Any], dict[str, float]]:
    """A function that gives a model's tuning scores.

    Raises:
        InputError: a folder of the tuning set is missing or broken.
    """
    import torch

    from mretrieve.train.data import folders_of
    from mretrieve.train.tuning import make_pools, score_pools

    root = context.input_path(tuning.root)
    sentences = None if tuning.sentences is None else context.input_path(tuning.sentences)
    pools = make_pools(tuning, root, folders_of(root, tuning.folders), sentences)

    def score(model: Any) -> dict[str, float]:
        model.eval()
        with torch.autocast(context.device, torch.bfloat16, enabled=bf16):
            return score_pools(model, pools, prompts)

    return score
