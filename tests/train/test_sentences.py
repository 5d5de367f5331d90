"""The stage that narrows passages to answer sentences, run on small data."""

import json

import numpy as np
import pytest
from datasets import load_from_disk

from mretrieve.datasets.heldout import held_out_mlqa
from mretrieve.errors import InputError
from mretrieve.train.context import StageContext
from mretrieve.train.kept_vectors import KeptVectors
from mretrieve.train.recipe import read_training_recipe
from mretrieve.train.runner import run_recipe
from mretrieve.train.tuning import sentence_pool


@pytest.fixture
def narrow(write_recipe, stages, base, tmp_path):
    """A function that runs the stages `data` and `sentences`."""

    def run(**change):
        own = {"stage": "sentences", "data": ["data/cross", "data/mono"], "model": str(base), "margin": 0.0}
        recipe = write_recipe({"data": stages["data"], "sentences": own | change})
        return run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")

    return run


def test_questions_get_sentences_with_negatives_of_the_same_passages(narrow, root):
    report = narrow(held_out="train/multi-mlqa", held_out_groups=3)
    folder = report.folder / "sentences"
    cross = load_from_disk(str(folder / "cross"))
    hidden, questions = held_out_mlqa(root / "train" / "multi-mlqa")
    languages = {(row["language"], row["positive_language"]) for row in cross}
    assert len(languages) == 16, "every language with every other, and with itself"
    for row in cross:
        assert "\n" not in row["positive"]
        assert row["positive_id"].rpartition("-s")[0] not in hidden
        assert row["anchor_id"] not in questions
        # Passages have two sentences: one is right, the other of each passage is wrong.
        same = row["language"] == row["positive_language"]
        assert row["negative_languages"][0] == row["language"]
        assert same or row["negative_languages"][1] == row["positive_language"]
        assert row["positive"] not in (row["negative_1"], row["negative_2"])
    parallel = load_from_disk(str(folder / "parallel"))
    assert all(row["language"] != row["positive_language"] and row["target"] for row in parallel)
    assert {row["source"] for row in parallel} == {"train/multi-mlqa"}
    pool = sentence_pool(folder / "held-out")
    assert {document.doc_id.rpartition("-s")[0] for document in pool.documents} < hidden
    assert len(pool.documents) == 3 * 4 * 2
    licences = json.loads((folder / "licences-mono.json").read_text(encoding="utf-8"))
    assert {"source": "train/de-facts", "licence": "CC0"}.items() <= licences[0].items()
    assert not (folder / "vectors").exists()


def test_a_part_of_the_questions(narrow):
    details = narrow(per_source=5).stages[-1].details["sets"]
    assert details["mono"]["questions"] == 4 * 5
    assert details["cross"]["questions"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ["data/parallel"]}, r"in 'data/parallel', which is no set of `kind: retrieval`"),
        ({"margin": 9.0, "data": ["data/cross"]}, r"found no answer sentences for 'data/cross'"),
        ({"held_out": "train/nothing"}, r"held_out names .*nothing, which is not there"),
        ({"model": "nothing"}, r"Unknown model 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_told(narrow, change, message):
    with pytest.raises(InputError, match=message):
        narrow(**change)


def test_a_sentence_that_is_evaluated_on_stops_the_run(write_recipe, stages, base, tmp_path, monkeypatch):
    from mretrieve.train import leakage

    monkeypatch.setattr(
        leakage.Evaluated, "_reason", lambda self, text, is_near: "equal" if "zz" in text else ""
    )
    # The passages pass unlooked at; then the stage itself has to find it.
    monkeypatch.setattr("mretrieve.train.data.drop_leaks", lambda pairs, evaluated: (list(pairs), {}, []))
    own = {"stage": "sentences", "data": ["data/mono"], "model": str(base), "margin": 0.0}
    recipe = write_recipe({"data": stages["data"], "sentences": own})
    with pytest.raises(InputError, match=r"a sentence that is evaluated on, such as .*zz"):
        run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
    recipe = write_recipe({"data": stages["data"] | {"on_leak": "drop"}, "sentences": own})
    report = run_recipe(recipe, run_folder=tmp_path / "other", device="cpu")
    mono = load_from_disk(str(report.folder / "sentences" / "mono"))
    assert len(mono) and not any("zz" in row["positive"] for row in mono)
    assert report.stages[-1].details["sets"]["mono"]["leaks"] > 0


def test_a_stopped_stage_encodes_nothing_twice(write_recipe, stages, base, tmp_path):
    own = {"stage": "sentences", "data": ["data/cross"], "model": str(base)}
    recipe = read_training_recipe(write_recipe({"data": stages["data"], "sentences": own}))
    context = StageContext(recipe, recipe.stages[1], tmp_path, 1, "cpu", lambda *_: None)
    context.folder.mkdir()
    texts = [f"text {number}" for number in range(5)]
    first = KeptVectors(str(base), context).embed("query", texts)
    assert np.linalg.norm(first, axis=1) == pytest.approx(np.ones(5), abs=1e-3)
    (shard,) = (context.folder / "vectors").iterdir()
    np.save(shard, np.full_like(first, 0.5, np.float16))
    again = KeptVectors(str(base), context)
    assert (again.embed("query", texts) == 0.5).all(), "read, not made"
    assert not (again.embed("passage", texts) == 0.5).any(), "of another role"
