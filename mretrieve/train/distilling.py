"""The stage `distill`: a student learns a cross-encoder's scores with passages in other languages."""

import logging
import time
from collections import Counter
from typing import Literal

from mretrieve.errors import InputError
from mretrieve.languages import normalize_language
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.data import RetrievalSet, source_of
from mretrieve.train.mixing import Versions, Way, mix_entries
from mretrieve.train.objectives import Objective
from mretrieve.train.recipe import fingerprint
from mretrieve.train.sets import is_set, load_set, negative_columns, write_rows
from mretrieve.train.training import Training, run_train
from mretrieve.train.translating import TRANSLATIONS, read_translations

logger = logging.getLogger(__name__)


class DistillStage(Training):
    """Multilingual Translate-Distill (Yang et al., 2024, arXiv:2405.00977), as a way of training.

    Objectives with `scores` read sets that a stage `teach` has scored. Their passages come in `languages`
    (all without any), `mix` says how, see `mix_entries`; with `questions` the questions too. What a text is
    in another language is looked up in `translations`: stages `translate`, and sets of parallel sentences,
    questions or passages of a stage `data`. Other objectives are trained beside as they are.
    """

    stage: Literal["distill"]
    translations: list[str] = []
    mix: Way = "mix-passages"
    languages: list[str] = []
    questions: bool = False

    def inputs(self) -> list[str]:
        """As in every training, and the translations."""
        return [*super().inputs(), *self.translations]


def run_distill(stage: DistillStage, context: StageContext) -> StageResult:
    """Write the mixed sets to `NAME/data`, and train on them.

    Raises:
        InputError: a set has no scores or no translations, or as `run_train`.
    """
    if not any(one.scores for one in stage.objectives.values()):
        raise InputError(
            f"Stage '{stage.name}' distils nothing: give an objective with `scores: {{}}`, of a set that a "
            "stage `teach` has scored."
        )
    # In a folder of its own for each choice, so that nothing is left over from other parameters.
    home = f"data/{fingerprint([stage.settled(), context.seed])}"
    objectives = {}
    counts: dict[str, dict[str, int]] = {}
    versions = _versions(stage, context) if context.is_main else Versions()
    for name, objective in stage.objectives.items():
        if objective.scores is None:
            objectives[name] = objective
            continue
        path = context.folder / home / name
        if context.is_main:
            counts[name] = _write_mixed(stage, objective, versions, context, name, home)
        while not is_set(path):
            time.sleep(1.0)  # until the first process of torchrun has made it
        objectives[name] = objective.model_copy(update={"data": f"{stage.name}/{home}/{name}"})
    result = run_train(stage.model_copy(update={"objectives": objectives}), context)
    return StageResult(result.scores, result.details | {"passages": counts})


def _write_mixed(
    stage: DistillStage,
    objective: Objective,
    versions: Versions,
    context: StageContext,
    name: str,
    home: str,
) -> dict[str, int]:
    """Write a set with its passages in other languages; how many there are in each."""
    columns = ["scores", "negative_languages", *negative_columns(objective.negatives)]
    data = load_set(objective.data, context, columns)
    languages = [normalize_language(code) for code in stage.languages]
    rows = list(
        mix_entries(
            data,
            versions,
            stage.mix,
            languages=languages,
            questions=stage.questions,
            seed=context.seed,
        )
    )
    counts = Counter(row["positive_language"] for row in rows)
    missing = [code for code in languages if not counts[code]]
    if missing:
        raise InputError(
            f"Stage '{stage.name}' is to distil '{objective.data}' in {', '.join(missing)}, but no passage "
            "of it is in that language: add translations, or leave the language out."
        )
    logger.info("Stage '%s', '%s': positives by language %s.", stage.name, name, dict(counts))
    path = context.folder / home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(rows, path)
    return dict(sorted(counts.items()))


def _versions(stage: DistillStage, context: StageContext) -> Versions:
    versions = Versions()
    for address in stage.translations:
        path = context.input_path(address)
        if (path / TRANSLATIONS).is_file():
            for found in read_translations(path / TRANSLATIONS):
                versions.add(*found)
            continue
        data = load_set(address, context, ["anchor", "positive", "group"])
        source = source_of(address, context.recipe)
        if source is None or isinstance(source[1], RetrievalSet):
            versions.add_groups(data)
        else:
            versions.add_pairs(data)
    return versions
