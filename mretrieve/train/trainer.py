"""sentence-transformers' trainer with our batches, and with a stop at the first loss that is no number."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.sampler import MultiDatasetDefaultBatchSampler
from torch import Tensor, nn
from torch.utils.data import ConcatDataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mretrieve.errors import InputError
from mretrieve.files import atomic_file, remove
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


class FiniteLoss:
    """Before a trainer of the library: it stops at the first loss that is no number."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As the library does it.

        Raises:
            NoNumberError: the loss is not finite.
        """
        examples = inputs.pop("example_ids", [])
        name = inputs.get("dataset_name")
        loss = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        value = loss[0] if isinstance(loss, tuple) else loss
        if not torch.isfinite(value).all():
            step = self.state.global_step + 1  # type: ignore[attr-defined]
            shown = "; ".join(examples[:8]) + (" ..." if len(examples) > 8 else "")
            what = f" of '{name}'" if name else ""
            batch = f", batch of {len(examples)} examples: {shown}" if examples else ""
            raise NoNumberError(f"The loss{what} is {float(value.detach())} at step {step}{batch}.")
        return loss

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: the card of a released model is written by hand, with measured scores."""


class RecipeTrainer(FiniteLoss, SentenceTransformerTrainer):
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


class BestWeights(TrainerCallback):
    """Keeps the trained weights that had the best tuning score.

    Args:
        folder: where they are kept until the end of the stage, through interruptions too.
        is_main: whether this process writes.
        fresh: the run starts anew, so what lies there is of another one.

    Attributes:
        step: at which the best score was.
    """

    def __init__(self, folder: Path, *, is_main: bool, fresh: bool) -> None:
        self._folder, self._is_main = folder, is_main
        self.step, self._score = 0, -math.inf
        if fresh and is_main:
            remove(folder)
        elif (folder / "best.json").is_file():
            found = json.loads((folder / "best.json").read_text(encoding="utf-8"))
            self.step, self._score = found["step"], found["score"]

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the weights if no others were better; of equal ones the earlier."""
        score = kwargs["metrics"]["eval_score"]
        if score <= self._score:
            return
        self.step, self._score = state.global_step, score
        if self._is_main:
            self._folder.mkdir(exist_ok=True)
            with atomic_file(self._folder / "best.safetensors") as file:
                file.write(save(_trained(kwargs["model"])))
            with atomic_file(self._folder / "best.json") as file:
                file.write(json.dumps({"step": self.step, "score": score}).encode())

    def put_into(self, model: nn.Module) -> None:
        """Give the model the best weights."""
        weights = load_file(self._folder / "best.safetensors")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in weights:
                    parameter.copy_(weights[name])


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}


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
