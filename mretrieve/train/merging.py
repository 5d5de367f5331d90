"""The stage `merge`: weights of several checkpoints averaged, with the choice left to tuning scores.

Wortsman et al., 2022, model soups (arXiv:2203.05482).
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mretrieve.errors import InputError
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.recipe import Stage, stage_of
from mretrieve.train.tuning import Tuning, tuning_inputs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

logger = logging.getLogger(__name__)

Score = Callable[[Any], dict[str, float]]


class MergeStage(Stage):
    """Parameters of the stage.

    `models` are stages, folders, or patterns of checkpoints such as `mix/checkpoints/checkpoint-*`. `how`:

    - `average`: the mean, or by `shares`, one for each model;
    - `greedy`: the best model, then each other one in the order of scores, if the mean is no worse for it;
    - `between`: two models, `share * first + (1 - share) * second` with the best of `shares`.

    The last two measure, so they need `tuning`.
    """

    stage: Literal["merge"]
    models: Annotated[list[str], Field(min_length=1)]
    how: Literal["average", "greedy", "between"] = "greedy"
    shares: list[Annotated[float, Field(ge=0, le=1)]] = []
    tuning: Tuning | None = None
    max_tokens: Annotated[int, Field(gt=2)] = 160
    bf16: bool = True

    def inputs(self) -> list[str]:
        """The models, and what they are measured by."""
        return [*self.models, *tuning_inputs(self.tuning)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.how != "average" and self.tuning is None:
            raise ValueError(f"how: {self.how} chooses by tuning scores: give tuning")
        if self.how == "between" and not self.shares:
            raise ValueError("how: between needs the shares to try, such as [0.5, 0.7, 0.9, 1.0]")
        return self


def run_merge(stage: MergeStage, context: StageContext) -> StageResult:
    """Write `NAME/model`.

    Raises:
        InputError: a model is missing, or they are not of one kind and size.
    """
    from mretrieve.train.assemble import prompts_of, scorer
    from mretrieve.train.student import load_student, save_student

    names = _models(stage, context)
    source = _source(stage, context, names[0])
    student = load_student(names[0], max_tokens=stage.max_tokens, device=context.device)
    score: Score = lambda model: {}  # noqa: E731
    if stage.tuning is not None:
        score = scorer(stage.tuning, context, prompts_of(source), bf16=stage.bf16)
    soup = _Soup(student, names, score, context)
    if stage.how == "greedy":
        shares = soup.greedy()
    elif stage.how == "between":
        shares = soup.between(stage.shares)
    else:
        shares = _given_shares(stage, names)
    scores = soup.measure(shares)
    save_student(student, context.folder / "model", source=source)
    used = {names[place]: round(share, 5) for place, share in enumerate(shares) if share}
    return StageResult(
        {name: round(value, 5) for name, value in scores.items()},
        {"shares": used, "tried": soup.tried},
    )


def _models(stage: MergeStage, context: StageContext) -> list[str]:
    """Folders or names of all models, those of a pattern in the order of their numbers."""
    found: list[str] = []
    for text in stage.models:
        if "*" not in text:
            found.append(context.model_name(text))
            continue
        inside = stage_of(text, context.recipe) is not None
        root, pattern = (context.run_folder, text) if inside else (Path(), text)
        paths = [path for path in root.glob(pattern) if (path / "config.json").is_file()]
        if not paths:
            raise InputError(f"Stage '{stage.name}' merges '{text}', but no model is named like that.")
        found += [str(path) for path in sorted(paths, key=lambda path: (len(path.name), path.name))]
    if stage.how == "between" and len(found) != 2:
        raise InputError(f"Stage '{stage.name}': how: between takes two models, not {len(found)}.")
    return list(dict.fromkeys(found))


def _source(stage: MergeStage, context: StageContext, first: str) -> str:
    """Where tokenizer and prompts come from: rather from a finished model than from a checkpoint of it."""
    for text in stage.models:
        other = stage_of(text, context.recipe)
        if other is not None and (context.run_folder / other.name / "model").is_dir():
            return str(context.run_folder / other.name / "model")
    return first


def _given_shares(stage: MergeStage, names: Sequence[str]) -> list[float]:
    shares = stage.shares or [1.0] * len(names)
    if len(shares) != len(names) or not sum(shares):
        raise InputError(
            f"Stage '{stage.name}' merges {len(names)} models, but shares names {len(shares)}, which sum to "
            f"{sum(shares):g}: give one for each."
        )
    return [share / sum(shares) for share in shares]


class _Soup:
    """Means of models, measured; only one model and the mean are in memory at once."""

    def __init__(
        self, student: "SentenceTransformer", names: Sequence[str], score: Score, context: StageContext
    ) -> None:
        self._student, self._names, self._score, self._context = student, names, score, context
        self.tried: list[dict[str, Any]] = []

    def greedy(self) -> list[float]:
        """Shares after Wortsman et al., 2022, recipe 1."""
        alone = [self._try(self._mean_of([place])) for place in range(len(self._names))]
        order = sorted(range(len(self._names)), key=lambda place: -alone[place])
        kept, best = [order[0]], alone[order[0]]
        for place in order[1:]:
            value = self._try(self._mean_of([*kept, place]))
            if value >= best:
                kept, best = [*kept, place], value
        return self._mean_of(kept)

    def between(self, shares: Sequence[float]) -> list[float]:
        """The best shares of two; of equal ones the first."""
        return max(([share, 1 - share] for share in shares), key=self._try)

    def measure(self, shares: Sequence[float]) -> dict[str, float]:
        """Make the student the models' mean; its scores."""
        self._mix(shares)
        return self._score(self._student)

    def _mean_of(self, places: Sequence[int]) -> list[float]:
        return [1 / len(places) if place in places else 0.0 for place in range(len(self._names))]

    def _try(self, shares: Sequence[float]) -> float:
        value = self.measure(shares)["score"]
        self.tried.append({"shares": [round(share, 5) for share in shares], "score": round(value, 5)})
        name = self._context.stage.name
        logger.info("Stage '%s': shares %s, score %.5f.", name, self.tried[-1]["shares"], value)
        self._context.on_progress(name, len(self.tried), None)
        return value

    def _mix(self, shares: Sequence[float]) -> None:
        import torch

        mean: dict[str, Tensor] = {}
        for name, share in zip(self._names, shares, strict=True):
            if not share:
                continue
            for key, tensor in self._weights(name).items():
                if tensor.is_floating_point():
                    mean[key] = mean.get(key, 0.0) + share * tensor.double()
        with torch.no_grad():
            for key, tensor in self._student.state_dict().items():
                if key in mean:
                    tensor.copy_(mean[key])

    def _weights(self, name: str) -> "dict[str, Tensor]":
        from mretrieve.train.student import load_student

        own = self._student.state_dict()
        other = load_student(name, max_tokens=3, device="cpu").state_dict()
        if {k: t.shape for k, t in own.items()} != {k: t.shape for k, t in other.items()}:
            raise InputError(
                f"{self._names[0]} and {name} are not of one kind and size, so their weights have no mean."
            )
        return dict(other)
