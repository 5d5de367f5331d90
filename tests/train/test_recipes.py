"""Every recipe that we commit loads, and its small version runs, on small data and a small model."""

from pathlib import Path

import pytest
import yaml

from mretrieve.train.recipe import read_training_recipe
from mretrieve.train.runner import run_recipe
from mretrieve.train.stages import STAGES
from mretrieve.train.training import Training

RECIPES = sorted((Path(__file__).resolve().parents[2] / "training").glob("*.yaml"))
names = [path.stem for path in RECIPES]


def small(recipe, root, base):
    """Changes that put the small data and the small model in the place of the real ones."""
    changes = {}
    for stage in recipe.stages:
        change = {}
        if hasattr(stage, "root"):
            change["root"] = str(root)
        if getattr(stage, "tuning", None) is not None:
            change["tuning"] = {"root": str(root)}
        for key in ("base", "model", "teacher"):
            if getattr(stage, key, None) == "e5-small":
                change[key] = str(base)
        if getattr(stage, "train", None) is not None:
            change["train"] = {"base": str(base)}
        changes[stage.name] = change
    return changes


@pytest.mark.parametrize("path", RECIPES, ids=names)
def test_a_recipe_loads_whole_and_small(path):
    recipe, smoke = read_training_recipe(path), read_training_recipe(path, smoke=True)
    assert recipe.name == path.stem, "so that each has a run folder of its own"
    assert recipe.about, "what it is for"
    assert [stage.name for stage in smoke.stages] == [stage.name for stage in recipe.stages]
    assert str(Path.home()) not in path.read_text(encoding="utf-8")
    for stage in smoke.stages:
        if isinstance(stage, Training):
            assert stage.steps <= 4


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=names)
def test_the_small_version_runs(path, root, base, tmp_path):
    changes = small(read_training_recipe(path, smoke=True), root, base)
    report = run_recipe(path, run_folder=tmp_path / "run", smoke=True, changes=changes, device="cpu")
    assert [stage.status for stage in report.stages] == ["done"] * len(report.stages)
    last = report.stages[-1]
    assert {"score", "monolingual", "cross_map", "sentence_map", "sentence_mrr"} <= last.scores.keys()
    assert (report.folder / last.name / "model" / "model.safetensors").is_file()


def test_an_ablation_changes_one_thing():
    """What differs from its parent stands in the file, and nothing else."""
    for path in RECIPES:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "extends" not in content:
            continue
        parent = read_training_recipe(path.with_name(content["extends"]))
        added = {stage["name"] for stage in content.get("stages", [])}
        changed = {*content.get("override", {}), *content.get("without", []), *added}
        before = {stage.name: stage for stage in parent.stages}
        after = {stage.name: stage for stage in read_training_recipe(path).stages}
        for name in before.keys() | after.keys():
            assert (before.get(name) != after.get(name)) == (name in changed), f"{path.name}: {name}"


def test_every_kind_of_stage_is_known():
    kinds = {
        "data",
        "upcycle",
        "sentences",
        "neutralise",
        "mine",
        "translate",
        "teach",
        "train",
        "align",
        "contrastive",
        "distill",
    }
    assert kinds | {"merge"} == STAGES.keys()
