"""The kinds of stages by name: what parameters each takes, and the function that runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.data import DataStage, run_data
from mretrieve.train.recipe import Stage
from mretrieve.train.training import TrainStage, run_train
from mretrieve.train.upcycling import UpcycleStage, run_upcycle


@dataclass(frozen=True)
class StageKind:
    """Parameters and function; the function imports what is heavy when it is called.

    Under torchrun a `distributed` one runs in every process, others in the first alone. `unfinished` is a
    pattern of what a stage that was cut off leaves in its folder to go on from.
    """

    parameters: type[Stage]
    run: Callable[[Any, StageContext], StageResult]
    distributed: bool = False
    unfinished: str = ""


STAGES: dict[str, StageKind] = {
    "data": StageKind(DataStage, run_data),
    "upcycle": StageKind(UpcycleStage, run_upcycle),
    "train": StageKind(TrainStage, run_train, distributed=True, unfinished="checkpoints/checkpoint-*"),
}
"""Kinds by the name that a recipe gives under `stage:`."""
