"""What a stage is given when it runs: folder, seed, where its inputs are, whom to tell of progress."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mretrieve.errors import InputError
from mretrieve.train.recipe import Recipe, Stage, find_path, stage_of

OnProgress = Callable[[str, int, int | None], None]
"""Told of a stage's name, how much of it is done, and of how much (None when unknown)."""


@dataclass(frozen=True)
class StageContext:
    """Surroundings of one stage.

    Attributes:
        recipe: the whole recipe.
        stage: the one that runs.
        run_folder: of the recipe; each stage has a folder of its own in it.
        seed: for all that the stage draws.
        device: `cpu` or `cuda`.
        on_progress: told how far the stage is.
        fingerprints: path -> digest of the data that the stage has read; the stage fills it.
    """

    recipe: Recipe
    stage: Stage
    run_folder: Path
    seed: int
    device: str
    on_progress: OnProgress
    fingerprints: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the stage writes; it exists."""
        return self.run_folder / self.stage.name

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports; under torchrun one of all does."""
        return rank() == 0

    def input_path(self, text: str) -> Path:
        """The file or folder that an input names: of an earlier stage, or anywhere.

        Raises:
            InputError: it is not there.
        """
        other = stage_of(text, self.recipe)
        path = find_path(text, self.recipe) if other is None else self.run_folder / text
        if not path.exists():
            hint = "Run the stages before it first" if other else "Give its path, or put it there"
            raise InputError(
                f"Stage '{self.stage.name}' of {self.recipe.path} reads '{text}', but there is no {path}. "
                f"{hint}."
            )
        return path

    def model_name(self, text: str) -> str:
        """A model that an input names, as a folder or a name that `find_checkpoint` knows."""
        other = stage_of(text, self.recipe)
        if other is not None:
            return str(self.input_path(text if "/" in text else f"{text}/model"))
        path = find_path(text, self.recipe)
        return str(path) if path.is_dir() else text


def rank() -> int:
    """Number of this process among those of torchrun, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class StageResult:
    """What a stage reports: scores by name, and anything else worth keeping."""

    scores: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
