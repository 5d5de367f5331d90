"""Recipes: every mistake in one is told with file, stage and key."""

import pytest
import yaml

from mretrieve.errors import InputError
from mretrieve.train.recipe import fingerprint, read_training_recipe


def test_a_recipe_is_read_with_its_defaults(write_recipe, stages):
    recipe = read_training_recipe(write_recipe(stages, seed=7))
    assert (recipe.name, recipe.seed) == ("small", 7)
    assert [stage.name for stage in recipe.stages] == ["data", "base", "mix"]
    mix = recipe.to_dict()["stages"][2]
    assert mix["weight_decay"] == 0.01
    assert mix["objectives"]["align"]["ranking"]["temperature"] == 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stepz": 3},
            r"small\.yaml: stage 'mix' \(train\): stepz is not a key here \(did you mean steps\?\)",
        ),
        (
            {"objectives": {"align": {"ranking": {"temprature": 1}}}},
            r"objectives\.align\.ranking\.temprature is not a key here \(did you mean temperature\?\); known "
            r"are directions, margin, partition, temperature, weight",
        ),
        ({"steps": 0}, r"stage 'mix' \(train\): steps: input should be greater than 0, not 0"),
        ({"steps": None}, r"stage 'mix' \(train\): steps: input should be a valid integer, not None"),
        ({"stage": "trian"}, r"stage 'mix' is of the unknown kind 'trian'. Did you mean train\?"),
        ({"tuning": None, "choose": "best"}, r"choose: best needs tuning scores"),
        ({"teacher": None}, r"objective 'align' needs a teacher"),
        ({"tuning": {"root": "x", "sentences": "mix/held-out"}}, r"stage 'mix' reads 'mix/held-out'"),
        ({"model": "mix"}, r"stage 'mix' reads 'mix', which a stage makes that does not come before it"),
        (
            {"objectives": {"align": {"ranking": None, "targets": None}}},
            r"an objective needs a loss: ranking, similarities, targets, target_ranking, multi_positive or "
            r"scores",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(write_recipe, stages, change, message):
    with pytest.raises(InputError, match=message):
        read_training_recipe(write_recipe(stages), changes={"mix": change})


def test_a_set_of_data_knows_its_own_keys(write_recipe, stages):
    stages["data"]["sets"]["mono"]["folder"] = ["x"]
    with pytest.raises(InputError, match=r"folder is not a key here \(did you mean folders\?\)"):
        read_training_recipe(write_recipe(stages))


def test_norwegian_is_no_truth_value(write_recipe, stages):
    stages["data"]["hold_out_languages"] = [False]
    with pytest.raises(InputError, match=r"YAML reads this as false; put the value in quotes"):
        read_training_recipe(write_recipe(stages))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stages: [", r"is not valid YAML"),
        ("- a", r"should hold keys with values"),
        ("name: x", r"has no stages"),
        ("name: x\nstagse: []", r"stagse is not a key here \(did you mean stages\?\)"),
        ("name: 3\nstages: [{stage: upcycle, name: a}]", r"name should be of type str, not 3"),
        ("stages: [{stage: upcycle, name: a}, {stage: upcycle, name: a}]", r"two stages have the name 'a'"),
        ("stages: [{stage: upcycle, name: A b}]", r"stage 'A b' \(upcycle\): name: string should match"),
        ("extends: missing.yaml", r"missing\.yaml cannot be read: No such file"),
        ("extends: r.yaml", r"extends itself"),
    ],
)
def test_a_file_that_is_no_recipe_is_told(tmp_path, content, message):
    path = tmp_path / "r.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_training_recipe(path)


def test_an_ablation_is_a_few_lines(write_recipe, stages):
    parent = write_recipe(stages, smoke={"mix": {"steps": 2}, "data": {"on_leak": "drop"}})
    child = parent.with_name("dense.yaml")
    content = {"extends": parent.name, "name": "dense", "override": {"base": {"dense": True}}}
    child.write_text(yaml.safe_dump(content), encoding="utf-8")
    before, after = read_training_recipe(parent), read_training_recipe(child)
    assert after.name == "dense"
    assert [stage.dense for stage in (before.stages[1], after.stages[1])] == [False, True]
    assert after.stages[2] == before.stages[2]
    assert read_training_recipe(child, smoke=True).stages[2].steps == 2


def test_a_stage_can_be_left_out(write_recipe, stages):
    parent = write_recipe(stages, smoke={"mix": {"steps": 2}})
    child = parent.with_name("without.yaml")
    child.write_text(f"extends: {parent.name}\nwithout: [mix]\n", encoding="utf-8")
    assert [stage.name for stage in read_training_recipe(child, smoke=True).stages] == ["data", "base"]
    child.write_text(f"extends: {parent.name}\noverride: {{maix: {{steps: 1}}}}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"override: there is no stage 'maix' \(did you mean mix\?\)"):
        read_training_recipe(child)


def test_seeds_follow_from_the_recipe(write_recipe, stages):
    recipe = read_training_recipe(write_recipe(stages | {"mix": stages["mix"] | {"seed": 5}}))
    seeds = [recipe.seed_of(stage) for stage in recipe.stages]
    assert seeds[2] == 5
    assert seeds[0] != seeds[1]
    assert seeds[:2] == [recipe.seed_of(stage) for stage in recipe.stages[:2]]


def test_fields_about_how_to_run_do_not_count(write_recipe, stages):
    first = read_training_recipe(write_recipe(stages)).stages[2].settled()
    stages["mix"]["save_every"] = 100
    stages["mix"]["tuning"]["every"] = 100
    assert fingerprint(read_training_recipe(write_recipe(stages)).stages[2].settled()) == fingerprint(first)
    stages["mix"]["tuning"]["queries"] = 100
    assert fingerprint(read_training_recipe(write_recipe(stages)).stages[2].settled()) != fingerprint(first)
