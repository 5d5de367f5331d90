"""The stage `distill`: scores of one language, passages of others."""

import pytest
from datasets import load_from_disk

from mretrieve.datasets.heldout import mlqa_groups
from mretrieve.errors import InputError
from mretrieve.train.runner import run_recipe


@pytest.fixture
def run(write_recipe, prepared, stages, base, reranker, tmp_path):
    def run(**change):
        scored = {"stage": "teach", "data": ["mined/cross"], "teacher": str(reranker), "languages": ["en"]}
        kept = ("stage", "model", "steps", "learning_rate", "max_tokens", "bf16", "save_every", "log_every")
        distill = {name: stages["mix"][name] for name in kept} | {"stage": "distill", "model": str(base)}
        distill["objectives"] = {
            "scores": {"data": "scored/cross", "batch_size": 4, "negatives": 2, "scores": {}},
            "mono": {"data": "data/mono", "batch_size": 4, "ranking": {}},
        }
        distill |= {"stage": "distill", "steps": 2, "teacher": None, "translations": ["data/cross"]} | change
        recipe = write_recipe(prepared | {"scored": scored | {"negatives": 3}, "learned": distill})
        return run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")

    return run


def mixed(report):
    [path] = (report.folder / "learned" / "data").glob("*/scores")
    return load_from_disk(str(path))


@pytest.mark.parametrize("way", ["mix-passages", "mix-entries", "round-robin"])
def test_the_students_passages_are_in_other_languages(run, root, way):
    report = run(mix=way)
    data, scored = mixed(report), load_from_disk(str(report.folder / "scored" / "cross"))
    assert set(scored["positive_language"][:]) == {"en"}
    assert set(data["positive_language"][:]) == {"de", "en", "fr", "sw"}
    assert len(data) == len(scored) * (4 if way == "round-robin" else 1)
    scores = {row["anchor_id"]: row["scores"] for row in scored}
    groups = mlqa_groups(root / "train" / "multi-mlqa").documents
    passages = {p: (groups[i], code) for p, i, code in _passages(report)}
    for row in data:
        assert row["scores"] == scores[row["anchor_id"]]
        assert passages[row["positive"]] == (groups[row["positive_id"]], row["positive_language"])
        for place, (doc_id, code) in enumerate(
            zip(row["negative_ids"], row["negative_languages"], strict=True), 1
        ):
            assert passages[row[f"negative_{place}"]] == (groups[doc_id], code)
    assert report.stages[-1].details["passages"]["scores"]["sw"] > 0
    assert (report.folder / "learned" / "model" / "config.json").is_file()


def _passages(report):
    data = load_from_disk(str(report.folder / "data" / "cross"))
    return zip(data["positive"][:], data["positive_id"][:], data["positive_language"][:], strict=True)


@pytest.mark.parametrize("kind", ["kl", "margin_mse"])
def test_languages_may_be_chosen_and_the_loss_too(run, kind):
    objective = {"data": "scored/cross", "batch_size": 4, "negatives": 2, "scores": {"kind": kind}}
    report = run(languages=["sw"], objectives={"scores": objective})
    assert set(mixed(report)["positive_language"][:]) == {"sw"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"objectives": {"mono": {"data": "data/mono", "ranking": {}}}},
            r"distils nothing: give an objective with `scores",
        ),
        ({"languages": ["th"]}, r"in th, but no passage of it is in that language"),
        ({"translations": ["base"]}, r"reads 'base', but there is no"),
        ({"translations": ["mined"]}, r"is no data set that a stage has written"),
        (
            {"objectives": {"a": {"data": "mined/cross", "batch_size": 4, "negatives": 2, "scores": {}}}},
            r"'mined/cross' lacks scores",
        ),
        ({"objectives": {"a": {"data": "scored/cross", "scores": {}}}}, r"set negatives to 1 or more"),
    ],
)
def test_what_cannot_be_distilled_is_told(run, change, message):
    with pytest.raises(InputError, match=message):
        run(**change)
