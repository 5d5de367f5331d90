"""What a run leaves behind, and how it goes on."""

import json

import pytest
import yaml

from mretrieve.errors import InputError
from mretrieve.train import runner
from mretrieve.train.runner import code_version, run_recipe


@pytest.fixture
def recipe(write_recipe, stages):
    return write_recipe({"data": stages["data"], "base": stages["base"]}, seed=5)


def test_a_run_folder_tells_all_of_the_run(recipe, root, tmp_path):
    run = tmp_path / "run"
    report = run_recipe(recipe, run_folder=run, device="cpu")
    assert report.folder == run
    written = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    assert written["seed"] == 5
    assert written["stages"][1]["top_k"] == 2, "defaults too"
    assert code_version() in (run / "recipe.yaml").read_text(encoding="utf-8")
    stage = json.loads((run / "data" / "stage.json").read_text(encoding="utf-8"))
    assert stage["code"] == code_version()
    assert set(stage["data"]) >= {"train/de-facts/corpus.jsonl", "eval/de-other/queries.jsonl"}
    assert json.loads((run / "report.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(report.to_dict())
    )
    log = (run / "log.txt").read_text(encoding="utf-8")
    assert "Stage 'data' (data) starts" in log and "Stage 'base' is done" in log


def test_runs_have_folders_by_name(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = run_recipe(recipe, device="cpu")
    assert report.folder.resolve() == tmp_path / "training" / "runs" / "small"
    again = run_recipe(recipe, device="cpu")
    assert [stage.status for stage in again.stages] == ["skipped", "skipped"]
    assert [stage.details for stage in again.stages] == [stage.details for stage in report.stages]


def test_progress_is_told(recipe, tmp_path):
    told = []
    run_recipe(recipe, run_folder=tmp_path / "run", device="cpu", on_progress=lambda *one: told.append(one))
    assert [label for label, done, _ in told if done == 0 and ":" not in label] == ["data", "base"]


def test_a_stage_of_another_seed_is_another_recipe(recipe, write_recipe, stages, tmp_path):
    run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
    other = write_recipe({"data": stages["data"], "base": stages["base"]}, seed=6)
    with pytest.raises(
        InputError, match=r"stage 'data' of another recipe \(a stage that it reads .* or the seed"
    ):
        run_recipe(other, run_folder=tmp_path / "run", device="cpu")


def test_what_follows_a_removed_stage_may_stay(recipe, tmp_path):
    from mretrieve.files import remove

    run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
    remove(tmp_path / "run" / "data")
    report = run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
    assert [stage.status for stage in report.stages] == ["done", "skipped"], "they do not read each other"


def test_a_failed_stage_runs_again(recipe, tmp_path, monkeypatch):
    from mretrieve.train.stages import STAGES

    run = STAGES["upcycle"].run

    def fail(stage, context):
        raise OSError("no room")

    monkeypatch.setitem(
        STAGES, "upcycle", runner.STAGES["upcycle"].__class__(STAGES["upcycle"].parameters, fail)
    )
    with pytest.raises(OSError, match="no room"):
        run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
    monkeypatch.setitem(
        STAGES, "upcycle", runner.STAGES["upcycle"].__class__(STAGES["upcycle"].parameters, run)
    )
    report = run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
    assert [stage.status for stage in report.stages] == ["skipped", "done"]
