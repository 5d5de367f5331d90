"""All recipes one after the other, on small data, small models and one set."""

import json
from dataclasses import replace

import pytest
import yaml
from ablations import MAIN, Plan, choose_recipes, compare_all, main, print_report, run_all, share_stages
from quality_sets import xquad

from mretrieve.errors import InputError
from mretrieve.train.recipe import read_training_recipe
from mretrieve.train.runner import finished_stages, stage_keys
from tests.train.tiny import tiny_base
from tests.train.tiny import tiny_data as training_data


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """A main recipe of two stages, one that changes the second, and one that cannot run."""
    home = tmp_path_factory.mktemp("ablations")
    base, folder = tiny_base(home / "base"), home / "training"
    folder.mkdir()
    root = training_data(home / "data")
    sets = {"parallel": {"kind": "parallel", "files": ["parallel/*.xz"], "pairs": 40}}
    data = {"stage": "data", "name": "data", "root": str(root), "evaluation": ["eval/*"], "sets": sets}
    upcycle = {"stage": "upcycle", "name": "base", "base": str(base), "experts": 4}
    contents = {
        MAIN: {"name": MAIN, "stages": [data, upcycle]},
        "dense": {"extends": f"{MAIN}.yaml", "name": "dense", "override": {"base": {"dense": True}}},
        "broken": {"extends": f"{MAIN}.yaml", "name": "broken", "override": {"base": {"base": "nothing"}}},
    }
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.fixture
def plan(recipes, tiny_data, tmp_path, monkeypatch):
    """What is run: all recipes, measured on XQuAD."""
    monkeypatch.setattr("vectors.cache_folder", lambda: tmp_path / "cache")
    return Plan(choose_recipes(None, recipes), tmp_path / "runs", tiny_data, {"xquad": xquad}, "cpu")


def test_every_committed_recipe_is_run_the_main_one_first():
    chosen = [path.stem for path in choose_recipes(None)]
    assert chosen[0] == MAIN and len(chosen) == len(set(chosen))
    wanted = {"dense", "upcycle-nomic", "without-mining", "with-distillation", "random-languages"}
    assert wanted | {"hypersphere-router", "four-experts"} <= set(chosen)
    assert [path.stem for path in choose_recipes(["dense"])] == [MAIN, "dense"]
    with pytest.raises(InputError, match=r"no recipe 'dens' in .*Choose from: .*dense"):
        choose_recipes(["dens"])


@pytest.mark.slow
def test_all_are_trained_and_compared_and_a_second_run_makes_nothing_anew(plan, tmp_path, capsys):
    file = tmp_path / "ablations.json"
    report = run_all(plan, json_file=file, on_progress=lambda *_: None)
    assert report["failed"].keys() == {"broken"} and "nothing" in report["failed"]["broken"]
    assert json.loads(file.read_text(encoding="utf-8"))["stages"].keys() == {MAIN, "dense"}
    (line,) = report["lines"]
    assert line["set"] == "xquad" and "difference" in line["models"]["dense"]
    assert "verdict" not in line["models"]["dense"]
    assert [stage["status"] for stage in report["stages"]["dense"]] == ["skipped", "done"], "data are shared"
    print_report(report)
    table = capsys.readouterr().out
    assert table.count("\n") == 2 + 2 + 1 and "failed: " in table and "[" in table
    again = run_all(plan, json_file=None, on_progress=lambda *_: None)
    assert again["lines"] == report["lines"]
    assert {stage["status"] for one in again["stages"].values() for stage in one} == {"skipped"}


def test_without_the_main_one_there_is_nothing_to_compare_with(plan):
    broken = [path for path in plan.recipes if path.stem == "broken"]
    with pytest.raises(InputError, match=r"Unknown model|nothing"):
        run_all(replace(plan, recipes=broken), json_file=None, on_progress=lambda *_: None)


def test_only_stages_with_equal_parameters_and_inputs_are_shared(recipes, tmp_path):
    main_recipe, dense = recipes / f"{MAIN}.yaml", recipes / "dense.yaml"
    done = tmp_path / "done"
    for name, key in stage_keys(read_training_recipe(main_recipe)).items():
        (done / name).mkdir(parents=True)
        (done / name / "stage.json").write_text(json.dumps({"key": key}), encoding="utf-8")
        (done / name / "made.txt").write_text(name, encoding="utf-8")
    (done / "unfinished").mkdir()
    assert finished_stages(done).keys() == {"data", "base"}
    run = tmp_path / "run"
    assert share_stages(dense, run, [done], smoke=False) == ["data"]
    assert (run / "data" / "made.txt").read_text(encoding="utf-8") == "data"
    assert not (run / "base").exists()
    assert share_stages(dense, run, [done], smoke=False) == [], "it is there already"


def test_no_models_no_lines(capsys):
    assert compare_all({"one": {}}) == []
    with pytest.raises(SystemExit):
        main(["--recipe", "nothing"])
    assert "There is no recipe 'nothing'" in capsys.readouterr().err
