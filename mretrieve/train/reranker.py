"""Train a cross-encoder, by sentence-transformers' trainer and losses, on pairs with negatives."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
)
from sentence_transformers.cross_encoder.losses import (
    BinaryCrossEntropyLoss,
    MultipleNegativesRankingLoss,
)
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging as transformers_logging

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.errors import InputError
from mretrieve.files import remove
from mretrieve.train.context import StageContext
from mretrieve.train.sets import load_set, negative_columns
from mretrieve.train.teaching import TeacherTraining
from mretrieve.train.trainer import FiniteLoss
from mretrieve.train.training import newest_checkpoint, train_from

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


class RerankerTrainer(FiniteLoss, CrossEncoderTrainer):
    """The library's trainer; it checks every loss, and writes no model card."""


class _Watch(TrainerCallback):
    """Tells of progress, and logs."""

    def __init__(self, context: StageContext) -> None:
        self._context = context

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        label = f"{self._context.stage.name}: teacher"
        if self._context.is_main:
            self._context.on_progress(label, state.global_step, state.max_steps)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._context.is_main and "loss" in state.log_history[-1]:
            loss = state.log_history[-1]["loss"]
            logger.info("%s: teacher, step %d, loss %.5g", self._context.stage.name, state.global_step, loss)


def train_reranker(settings: TeacherTraining, context: StageContext, folder: Path) -> None:
    """Train a cross-encoder; an interrupted training goes on at its newest checkpoint.

    Args:
        settings: of the training.
        context: of the stage.
        folder: where the model goes; one that is there is not trained again.

    Raises:
        InputError: the base or a set is missing, or a loss was no number.
    """
    if (folder / "config.json").is_file():
        return
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = _load(context.model_name(settings.base), settings, context)
    data = _examples(settings, context)
    loss: torch.nn.Module
    if settings.loss == "binary":
        loss = BinaryCrossEntropyLoss(model, pos_weight=torch.tensor(float(settings.negatives)))
    else:
        loss = MultipleNegativesRankingLoss(model, num_negatives=settings.negatives)
    checkpoints = context.folder / "work" / "checkpoints"
    trainer = RerankerTrainer(
        model=model,
        args=_arguments(settings, context, checkpoints),
        train_dataset=data,
        loss=loss,
        callbacks=[_Watch(context)],
    )
    trainer.remove_callback(PrinterCallback)
    train_from(trainer, newest_checkpoint(checkpoints, clean=context.is_main), context.stage.name)
    if context.is_main:
        building = folder.with_name(f"{folder.name}.building")
        remove(building)
        model.save_pretrained(str(building), create_model_card=False)
        building.rename(folder)


def _load(base: str, settings: TeacherTraining, context: StageContext) -> CrossEncoder:
    folder = find_checkpoint(base).folder
    torch.manual_seed(context.seed)  # of the new head
    try:
        model: CrossEncoder = CrossEncoder(
            str(folder), num_labels=1, max_length=settings.max_tokens, device=context.device
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"No cross-encoder can be made of '{base}': {str(error).splitlines()[0]} Give an encoder that "
            "transformers knows."
        ) from error
    return model


def _examples(settings: TeacherTraining, context: StageContext) -> "Dataset":
    """For `binary` question, passage and label; for `ranking` question, positive and negatives."""
    from datasets import Dataset

    names = ["anchor", "positive", *negative_columns(settings.negatives)]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for address in settings.data:
        data = load_set(address, context, names)
        for name in names:
            columns[name] += data[name][:]
    if settings.loss == "ranking":
        return Dataset.from_dict(columns)
    pairs: dict[str, list[Any]] = {"anchor": [], "passage": [], "label": []}
    for name in names[1:]:
        pairs["anchor"] += columns["anchor"]
        pairs["passage"] += columns[name]
        pairs["label"] += [float(name == "positive")] * len(columns["anchor"])
    return Dataset.from_dict(pairs)


def _arguments(
    settings: TeacherTraining, context: StageContext, checkpoints: Path
) -> CrossEncoderTrainingArguments:
    return CrossEncoderTrainingArguments(
        output_dir=str(checkpoints),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup * settings.steps),
        optim="adamw_torch_fused",
        bf16=settings.bf16,
        use_cpu=context.device == "cpu",
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        save_steps=settings.save_every,
        save_total_limit=2,
        seed=context.seed,
        data_seed=context.seed,
        dataloader_pin_memory=context.device != "cpu",
        report_to="none",
        disable_tqdm=True,
    )
