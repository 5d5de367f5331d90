"""The kinds of stages by name: what parameters each takes, and the function that runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.data import DataStage, run_data
from mretrieve.train.distilling import DistillStage, run_distill
from mretrieve.train.merging import MergeStage, run_merge
from mretrieve.train.mining import MineStage, run_mine
from mretrieve.train.neutralising import NeutraliseStage, run_neutralise
from mretrieve.train.recipe import Stage
from mretrieve.train.sentences import SentencesStage, run_sentences
from mretrieve.train.teaching import TeachStage, run_teach
from mretrieve.train.training import AlignStage, ContrastiveStage, TrainStage, run_train
from mretrieve.train.translating import TranslateStage, run_translate
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


_CHECKPOINTS = "checkpoints/checkpoint-*"

STAGES: dict[str, StageKind] = {
    "data": StageKind(DataStage, run_data),
    "upcycle": StageKind(UpcycleStage, run_upcycle),
    "neutralise": StageKind(NeutraliseStage, run_neutralise),
    "mine": StageKind(MineStage, run_mine, unfinished="triples/*"),
    "sentences": StageKind(SentencesStage, run_sentences, unfinished="vectors/*"),
    "translate": StageKind(TranslateStage, run_translate),
    "teach": StageKind(TeachStage, run_teach, distributed=True, unfinished="work/*"),
    "train": StageKind(TrainStage, run_train, distributed=True, unfinished=_CHECKPOINTS),
    "align": StageKind(AlignStage, run_train, distributed=True, unfinished=_CHECKPOINTS),
    "contrastive": StageKind(ContrastiveStage, run_train, distributed=True, unfinished=_CHECKPOINTS),
    "distill": StageKind(DistillStage, run_distill, distributed=True, unfinished=_CHECKPOINTS),
    "merge": StageKind(MergeStage, run_merge),
}
"""Kinds by the name that a recipe gives under `stage:`."""
