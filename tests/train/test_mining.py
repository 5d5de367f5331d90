"""The stage `mine`: what comes out is what the stage `data` has passed, with negatives beside it."""

import json

import pytest
from datasets import load_from_disk

from mretrieve.datasets.heldout import held_out_mlqa, mlqa_groups
from mretrieve.errors import InputError
from mretrieve.train.runner import run_recipe


@pytest.fixture
def run(write_recipe, stages, mined, tmp_path):
    def run(**change):
        recipe = write_recipe({"data": stages["data"], "mined": mined | change})
        run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
        return tmp_path / "run" / "mined"

    return run


def test_pairs_get_negatives_that_are_no_answers(run, root):
    folder = run()
    cross = load_from_disk(str(folder / "cross"))
    groups = mlqa_groups(root / "train" / "multi-mlqa").documents
    hidden, _ = held_out_mlqa(root / "train" / "multi-mlqa")
    assert len(cross) > 100
    for row in cross:
        own = groups[row["positive_id"]]
        assert len(row["negative_ids"]) == len(row["negative_languages"]) == 3
        assert own not in {groups[doc_id] for doc_id in row["negative_ids"]}, "parallel ones are answers"
        assert not hidden & set(row["negative_ids"])
        assert row["negative_3"] and row["negative_3"] != row["positive"]
    mono = load_from_disk(str(folder / "mono"))
    assert {row["source"] for row in mono} == {f"train/{code}-facts" for code in ("de", "en", "fr", "sw")}
    assert all(row["negative_languages"] == [row["language"]] * 3 for row in mono), "each folder is a pool"
    report = json.loads((folder / "mine.json").read_text(encoding="utf-8"))
    assert report["cross"]["pairs"] == report["cross"]["without negatives"] + len(cross)
    assert not (folder / "indexes").exists()


def test_in_one_pool_negatives_are_of_any_language(run):
    mono = load_from_disk(str(run(together=True, data=["data/mono"], other_languages=0.7) / "mono"))
    assert {code for row in mono for code in row["negative_languages"]} == {"de", "en", "fr", "sw"}


def test_stopped_work_goes_on(write_recipe, stages, mined, tmp_path):
    class Stop(Exception):
        pass

    def stop(label, done, total):
        if label.startswith("mined: train/en-facts"):
            raise Stop

    recipe = write_recipe({"data": stages["data"], "mined": mined | {"data": ["data/mono"]}})
    with pytest.raises(Stop):
        run_recipe(recipe, run_folder=tmp_path / "run", device="cpu", on_progress=stop)
    done = tmp_path / "run" / "mined" / "triples" / "train-de-facts-train.jsonl.gz"
    before = done.stat().st_mtime_ns
    report = run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
    assert done.stat().st_mtime_ns == before
    assert report.stages[-1].details["sets"]["mono"]["pairs"] == 4 * 2 * 18


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ["data/parallel"]}, r"mines for 'data/parallel', which is no set of `kind: retrieval`"),
        ({"data": ["data"]}, r"data names 'data', which is no set, only a stage"),
        ({"model": "nothing"}, r"Unknown model 'nothing'"),
    ],
)
def test_what_cannot_be_mined_is_told(run, change, message):
    with pytest.raises(InputError, match=message):
        run(**change)


def test_a_negative_that_is_evaluated_on_stops_the_run(write_recipe, stages, mined, tmp_path, monkeypatch):
    from mretrieve.train import leakage

    monkeypatch.setattr(
        leakage.Evaluated, "_reason", lambda self, text, is_near: "equal" if "zz" in text else ""
    )
    recipe = write_recipe({"data": stages["data"] | {"on_leak": "drop"}, "mined": mined})
    folder = tmp_path / "run"
    run_recipe(recipe, run_folder=folder, device="cpu")
    mono = load_from_disk(str(folder / "mined" / "mono"))
    assert len(mono) and not any("zz" in row[f"negative_{i}"] for row in mono for i in (1, 2, 3))
    assert json.loads((folder / "mined" / "mine.json").read_text(encoding="utf-8"))["mono"]["leaks"]
    recipe = write_recipe({"data": stages["data"], "mined": mined})
    monkeypatch.setattr("mretrieve.train.data.drop_leaks", lambda pairs, evaluated: (list(pairs), {}, []))
    with pytest.raises(InputError, match=r"negatives for 'data/cross' that are evaluated on"):
        run_recipe(recipe, run_folder=tmp_path / "other", device="cpu")
