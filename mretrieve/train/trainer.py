"""sentence-transformers' trainer with our batches, and with a stop at the first loss that is no number."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.sampler import MultiDatasetDefaultBatchSampler
from torch import Tensor, nn
from torch.utils.data import ConcatDataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mretrieve.errors import InputError
from mretrieve.train.batches import Batches, schedule
from mretrieve.train.curves import read_curves, write_curves
from mretrieve.train.losses import loss_means
from mretrieve.train.student import RouterLoss

logger = logging.getLogger(__name__)


class NoNumberError(InputError):
    """A loss or a gradient was not a finite number; training stopped before it could do harm."""


class RunBatches(MultiDatasetDefaultBatchSampler):
    """All batches of a run as one epoch, so that resuming is counting.

    Args:
        dataset: the data sets one after the other, in the order of `per_step`.
        batches: makes them, by data set.
        per_step: how many of each data set in a step of the optimizer.
        steps: of the run.
        processes: of torchrun.
    """

    def __init__(
        self,
        dataset: ConcatDataset[Any],
        make_batches: Callable[[], Mapping[str, Batches]],
        per_step: Mapping[str, int],
        *,
        steps: int,
        processes: int,
    ) -> None:
        self.dataset = dataset
        self.make_batches, self.per_step = make_batches, per_step
        self.steps, self.processes = steps, processes
        self.epoch = 0
        # Batches of different sizes: accelerate must not wait for one of a certain size.
        self.batch_size, self.drop_last = None, False  # type: ignore[assignment]
        self.batch_samplers: list[Any] = []

    def __iter__(self) -> Iterator[list[int]]:
        """Numbers of rows in `dataset`, always from the run's first batch on."""
        sizes = [len(one) for one in self.dataset.datasets]  # type: ignore[arg-type]
        offsets = dict(zip(self.per_step, [0, *accumulate(sizes)], strict=False))
        order = schedule(self.per_step, self.make_batches(), steps=self.steps, processes=self.processes)
        for name, rows in order:
            yield [offsets[name] + row for row in rows]

    def __len__(self) -> int:
        """Batches of the whole run, in all processes."""
        return self.steps * sum(self.per_step.values()) * self.processes


class RecipeTrainer(SentenceTransformerTrainer):
    """The library's trainer; it takes our batches, checks every loss, and writes no model card.

    Args:
        order: makes the batches of the run for the data sets, one after the other.
        others: as the library's.
    """

    def __init__(self, *, order: Callable[[ConcatDataset[Any]], RunBatches], **others: Any) -> None:
        super().__init__(**others)
        self._order = order
        self.remove_callback(PrinterCallback)  # the log has it all

    def get_multi_dataset_batch_sampler(self, dataset: ConcatDataset[Any], *_: Any, **__: Any) -> RunBatches:
        """The batches of the whole run."""
        return self._order(dataset)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: the card of a released model is written by hand, with measured scores."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As the library does it.

        Raises:
            NoNumberError: the loss is not finite.
        """
        examples = inputs.pop("example_ids", [])
        name = inputs.get("dataset_name")
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        value = loss[0] if isinstance(loss, tuple) else loss
        if not torch.isfinite(value).all():
            step = self.state.global_step + 1
            shown = "; ".join(examples[:8]) + (" ..." if len(examples) > 8 else "")
            raise NoNumberError(
                f"The loss of '{name}' is {float(value.detach())} at step {step}, batch of "
                f"{len(examples)} examples: {shown}."
            )
        return loss


class Watch(TrainerCallback):
    """Tells of progress, logs, draws curves, and stops at a gradient that is no number.

    Args:
        folder: of the stage, for curves.
        name: of the stage.
        on_progress: told of the steps.
        router_loss: its mean goes into the log.
        losses: of the objectives; their parts' means go into the log.
        is_main: whether this process writes.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        on_progress: Callable[[str, int, int | None], None],
        router_loss: RouterLoss,
        losses: Mapping[str, nn.Module],
        *,
        is_main: bool,
    ) -> None:
        self._folder, self._name, self._on_progress = folder, name, on_progress
        self._router_loss, self._losses, self._is_main = router_loss, losses, is_main
        self._last: tuple[int, float] | None = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the gradients before they reach the weights."""
        gradients: list[Tensor] = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise NoNumberError(f"The gradient's norm is {float(norm)} at step {state.global_step + 1}.")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Progress."""
        if self._is_main:
            self._on_progress(self._name, state.global_step, state.max_steps)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add what only we know to the newest entry, and log it."""
        logs = state.log_history[-1]
        if "loss" in logs:
            logs |= {name: round(value, 6) for name, value in loss_means(self._losses).items()}
            logs["router_loss"] = round(self._router_loss.mean(), 6)
            now = (state.global_step, time.monotonic())
            if self._last is not None and now[0] > self._last[0]:
                logs["seconds_per_step"] = round((now[1] - self._last[1]) / (now[0] - self._last[0]), 3)
            self._last = now
        if self._is_main:
            text = ", ".join(
                f"{key} {value:.5g}" for key, value in logs.items() if isinstance(value, int | float)
            )
            logger.info("%s: %s", self._name, text)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw the curves so far; the time of an evaluation is not a step's."""
        self._last = None
        self._draw(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw the whole curves."""
        self._draw(state)

    def _draw(self, state: TrainerState) -> None:
        if self._is_main:
            write_curves(read_curves(state.log_history), self._folder, title=self._name)
