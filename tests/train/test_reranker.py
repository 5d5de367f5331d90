"""Training a cross-encoder: it learns what it is shown, resumes, and stops at what is no number."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from mretrieve.errors import InputError
from mretrieve.train.context import StageContext
from mretrieve.train.recipe import Recipe
from mretrieve.train.reranker import train_reranker
from mretrieve.train.runner import run_recipe
from mretrieve.train.sets import write_set
from mretrieve.train.teaching import TeacherTraining, TeachStage


@pytest.fixture
def run(write_recipe, prepared, base, tmp_path):
    def run(on_progress=None, folder="run", **change):
        train = {"base": str(base), "data": ["mined/mono"], "negatives": 2, "steps": 4, "batch_size": 8}
        train |= {"max_tokens": 30, "bf16": False, "save_every": 2} | change
        stage = {"stage": "teach", "data": ["mined/mono"], "negatives": 2, "train": train}
        recipe = write_recipe(prepared | {"scored": stage})
        return run_recipe(recipe, run_folder=tmp_path / folder, device="cpu", on_progress=on_progress)

    return run


@pytest.mark.parametrize("loss", ["binary", "ranking"])
def test_positives_come_first_after_training(base, tmp_path, loss):
    """What answers is told by its letters here, so that a few steps are enough."""
    good, bad = [f"aaa aab {i:b}" for i in range(32)], [f"zzz zzy {i:b}" for i in range(32)]
    write_set({"anchor": ["abc"] * 32, "positive": good, "negative_1": bad}, tmp_path / "set")
    given = {"base": str(base), "data": [str(tmp_path / "set")], "negatives": 1, "batch_size": 8}
    given |= {"steps": 100, "learning_rate": 3e-3, "max_tokens": 30, "bf16": False, "loss": loss}
    stage = TeachStage(stage="teach", name="scored", data=["x/y"], train=TeacherTraining(**given))
    recipe = Recipe(tmp_path / "r.yaml", "r", 1, (stage,))
    context = StageContext(recipe, stage, tmp_path, 1, "cpu", lambda *_: None)
    context.folder.mkdir()
    train_reranker(stage.train, context, tmp_path / "teacher")
    model = CrossEncoder(str(tmp_path / "teacher"), device="cpu")
    scores = [model.predict([("abc", text) for text in texts]) for texts in (good, bad)]
    assert scores[0].min() > scores[1].max()


def test_an_interrupted_training_goes_on(run, prepared, tmp_path):
    class Stop(Exception):
        pass

    def stop(label, done, total):
        if label == "scored: teacher" and done == 3:
            raise Stop

    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    run(folder="whole")
    with pytest.raises(Stop):
        run(stop)
    assert (tmp_path / "run" / "scored" / "work" / "checkpoints" / "checkpoint-2").is_dir()
    steps = []
    run(lambda label, done, total: steps.append(done) if label == "scored: teacher" else None)
    assert steps == [3, 4]
    first, second = (
        load_file(tmp_path / one / "scored" / "teacher" / "model.safetensors") for one in ("whole", "run")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert CrossEncoder(str(tmp_path / "run" / "scored" / "teacher"), device="cpu").num_labels == 1


def test_a_loss_that_is_no_number_stops(run, monkeypatch):
    forward = BinaryCrossEntropyLoss.forward
    calls = iter(range(10))

    def spoiled(self, *arguments, **others):
        return forward(self, *arguments, **others) * (float("nan") if next(calls) == 2 else 1.0)

    monkeypatch.setattr(BinaryCrossEntropyLoss, "forward", spoiled)
    with pytest.raises(
        InputError, match=r"The loss is nan at step 3\. The last good checkpoint is .*checkpoint-2"
    ):
        run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "nothing"}, r"Unknown model 'nothing'"),
        ({"negatives": 9}, r"lacks negative_4"),
        ({"loss": "pairs"}, r"train\.loss: input should be 'binary' or 'ranking'"),
        ({"stepz": 9}, r"train\.stepz is not a key here \(did you mean steps\?\)"),
    ],
)
def test_what_cannot_be_trained_is_told(run, change, message):
    with pytest.raises(InputError, match=message):
        run(**change)
