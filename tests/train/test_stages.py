"""Kinds of stages: presets are the stage `train` with other defaults, and no more."""

import pytest

from mretrieve.train.recipe import read_training_recipe
from mretrieve.train.runner import run_recipe
from mretrieve.train.training import TrainStage

ALL_WAYS = ["query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"]


@pytest.fixture
def preset(stages):
    """Stages with one of a kind in the place of `mix`, whose objective says only what it reads."""

    def make(kind, data, **objective):
        own = {"data": data, "batch_size": 4} | objective
        changed = stages["mix"] | {"stage": kind, "steps": 2, "tuning": None, "objectives": {"one": own}}
        return stages | {"mix": changed}

    return make


def test_align_learns_from_parallel_text_in_all_directions(write_recipe, preset, tmp_path):
    recipe = write_recipe(preset("align", "data/parallel", ranking={"weight": 0.5}))
    one = read_training_recipe(recipe).stages[2].objectives["one"]
    assert one.ranking.directions == ALL_WAYS
    assert one.ranking.weight == 0.5, "what is said goes before the preset, at every depth"
    assert one.targets is not None
    assert (one.batching.languages, one.batching.per_batch) == ("balanced", 10)
    report = run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
    assert report.stages[-1].details == {"steps": 2}


def test_contrastive_masks_what_the_teacher_finds_as_near(write_recipe, preset, tmp_path):
    recipe = write_recipe(preset("contrastive", "data/cross"))
    one = read_training_recipe(recipe).stages[2].objectives["one"]
    assert one.ranking.margin == 0.0 and one.ranking.directions == ["query_to_doc"]
    assert one.targets is None
    assert run_recipe(recipe, run_folder=tmp_path / "run", device="cpu").stages[-1].status == "done"


def test_null_takes_a_presets_loss_away(write_recipe, preset):
    recipe = write_recipe(preset("align", "data/parallel", targets=None))
    one = read_training_recipe(recipe).stages[2].objectives["one"]
    assert one.targets is None and one.ranking.directions == ALL_WAYS


def test_train_adds_nothing():
    assert not TrainStage.preset
