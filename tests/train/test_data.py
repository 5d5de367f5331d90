"""The stage `data`: what goes in, what is refused, what is told."""

import json
import shutil

import pytest
from datasets import load_from_disk

from mretrieve.datasets.heldout import held_out_mlqa
from mretrieve.errors import InputError
from mretrieve.train.runner import run_recipe
from tests.train.tiny import N_FACTS, fact, passage


@pytest.fixture
def run(write_recipe, stages, tmp_path):
    """A function that runs the stage with changes to it, and gives its folder."""

    def run(**change):
        recipe = write_recipe({"data": stages["data"]})
        run_recipe(recipe, run_folder=tmp_path / "run", device="cpu", changes={"data": change})
        return tmp_path / "run" / "data"

    return run


def test_pairs_come_with_languages_sources_and_groups(run, root):
    folder = run()
    mono = load_from_disk(str(folder / "mono"))
    assert len(mono) == 4 * 2 * (N_FACTS - 6), "four languages, two questions on each fact of `train`"
    row = mono[0]
    assert row["source"] == "train/de-facts"
    assert (row["anchor_id"], row["positive_id"]) == ("de-q0-0", "de-d0")
    assert row["positive"].endswith(passage("de", 0)), "title and text"
    assert mono[1]["group"] == row["group"], "both questions have the same answer"
    cross = load_from_disk(str(folder / "cross"))
    documents, _ = held_out_mlqa(root / "train" / "multi-mlqa")
    assert documents
    assert not documents & set(cross["positive_id"][:])
    assert {r["language"] == r["positive_language"] for r in cross} == {True, False}
    assert len({r["group"] for r in cross if r["anchor_id"].endswith("-000")}) <= 1


def test_parallel_text_has_english_targets_and_no_held_out_language(run):
    folder = run(hold_out_languages=["bg"], sets={"parallel": {"pairs": 200, "english": 0.5}})
    parallel = load_from_disk(str(folder / "parallel"))
    assert 150 < len(parallel) <= 200
    languages = set(parallel["language"][:]) | set(parallel["positive_language"][:])
    assert languages == {"en", "de", "fr", "sw"}
    with_english = sum("en" in (r["language"], r["positive_language"]) for r in parallel)
    assert 0.5 < with_english / len(parallel) < 0.85, "half, and English drawn like any language"
    for row in parallel:
        number = int(row["anchor_id"].split(":")[0].removeprefix("ntrex-"))
        assert row["target"] == fact("parallel en", number)


def test_parallel_questions_ask_the_same(run):
    folder = run(
        sets={"questions": {"kind": "questions", "folders": ["train/multi-mlqa"], "same": "^[a-z]+-(.+)$"}}
    )
    questions = load_from_disk(str(folder / "questions"))
    row = next(row for row in questions if row["language"] == "de" and row["positive_language"] == "sw")
    assert row["anchor_id"].removeprefix("de") == row["positive_id"].removeprefix("sw")
    assert row["target"] == " ".join(fact("men", int(row["anchor_id"].split("-")[1]), 10).split()[:3])


def test_what_went_in_is_told(run):
    folder = run()
    report = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    assert report["mono"]["by_language"] == dict.fromkeys(("de", "en", "fr", "sw"), 2 * (N_FACTS - 6))
    licences = json.loads((folder / "licences.json").read_text(encoding="utf-8"))
    assert {"source": "train/de-facts", "licence": "CC0", "from": "nowhere", "about": "made up"} in licences
    stage = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
    assert "train/de-facts/corpus.jsonl" in stage["data"]
    assert "eval/de-other/corpus.jsonl" in stage["data"]


def test_a_passage_that_is_evaluated_on_stops_the_run(run, root, tmp_path, stages):
    shutil.copytree(root, tmp_path / "leaky")
    corpus = tmp_path / "leaky" / "eval" / "de-other" / "corpus.jsonl"
    record = {"_id": "leak", "title": "", "text": fact("fr", 3, 12), "lang": "fr"}
    with corpus.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    with pytest.raises(
        InputError, match=r"Set 'mono' of stage 'data' holds 2 pairs that are evaluated on, such"
    ):
        run(root=str(tmp_path / "leaky"))
    folder = run(root=str(tmp_path / "leaky"), on_leak="drop")
    report = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    assert report["mono"]["dropped"] == {"nearly equal to an evaluation passage": 2}
    assert report["mono"]["by_language"]["fr"] == 2 * (N_FACTS - 6) - 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sets": {"mono": {"folders": ["train/xx-*"]}}}, r"There is no data set .*xx-\*"),
        ({"sets": {"mono": {"splits": ["dev"]}}}, r"Split 'dev' of .* is not for training"),
        ({"sets": {"mono": {"folders": ["eval/*"]}}}, r"is evaluated on, so it must not be trained on"),
        (
            {"sets": {"cross": {"splits": ["train-all"]}}},
            r"has no split 'train-all': .* It has train, train-xling",
        ),
        (
            {"sets": {"mono": {"languages": ["en", "ja"]}}},
            r"Set 'mono' of stage 'data' holds no pairs in ja: leave the language out, or add data",
        ),
        ({"sets": {"parallel": {"files": ["parallel/none.xz"]}}}, r"There is no file .*none\.xz"),
        (
            {"sets": {"parallel": {"languages": ["en"]}}},
            r"needs two languages at least, but \['en'\] are left",
        ),
        ({"root": "nowhere"}, r"Stage 'data' of .* reads 'nowhere', but there is no nowhere"),
        ({"hold_out_languages": ["qqq"]}, r"Unknown language 'qqq'"),
        ({"topics": ["topics/*"]}, r"There is no file .*topics"),
    ],
)
def test_data_that_is_not_there_is_told(run, change, message):
    with pytest.raises(InputError, match=message):
        run(**change)
