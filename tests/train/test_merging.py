"""The stage `merge`: means of weights, written out, and the choice by tuning scores."""

import pytest
import torch
from safetensors.torch import load_file

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.train import assemble
from mretrieve.train.runner import run_recipe
from tests.conftest import make_checkpoint


@pytest.fixture
def models(tmp_path):
    """Three models of one kind, with other random weights each."""
    folders = []
    for seed in range(3):
        (tmp_path / f"model-{seed}").mkdir()
        prompts = {"query": "q ", "passage": "p "}
        folders.append(str(make_checkpoint(tmp_path / f"model-{seed}", seed=seed, prompts=prompts)))
    return folders


@pytest.fixture
def run(write_recipe, models, tmp_path):
    def run(**merge):
        stage = {"stage": "merge", "models": models, "bf16": False, "max_tokens": 24} | merge
        return run_recipe(write_recipe({"soup": stage}), run_folder=tmp_path / "run", device="cpu")

    return run


def weights(folder):
    return load_file(f"{folder}/model.safetensors")


def assert_mean(folder, parts):
    merged = weights(folder / "soup" / "model")
    models = [(share, weights(model)) for share, model in parts]
    for name, tensor in merged.items():
        expected = sum(share * model[name].double() for share, model in models)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-6)


def test_the_average_is_the_mean_of_the_weights(run, models):
    report = run(how="average")
    assert_mean(report.folder, [(1 / 3, model) for model in models])
    encoder = Encoder(str(report.folder / "soup" / "model"), device="cpu")
    assert encoder.query_prefix == "q "
    assert encoder.encode_queries(["abcd"]).shape == (1, 32)


def test_shares_may_be_given(run, models):
    assert_mean(run(how="average", shares=[0.9, 0, 0.3]).folder, [(0.75, models[0]), (0.25, models[2])])


def score_by(monkeypatch, models, wanted):
    """A tuning score that is the higher the nearer the weights are to a mean of models."""
    name = "encoder.layer.0.output.dense.weight"
    target = sum(share * weights(model)[name] for share, model in zip(wanted, models, strict=True))

    def score(model):
        own = model[0].model.state_dict()[name]
        return {"score": -float((own - target).norm())}

    monkeypatch.setattr(assemble, "scorer", lambda *a, **k: score)
    return {"root": "."}


def test_greedy_keeps_what_does_not_harm(run, models, monkeypatch):
    tuning = score_by(monkeypatch, models, [0.5, 0.0, 0.5])
    report = run(how="greedy", tuning=tuning)
    details = report.stages[0].details
    assert details["shares"] == {models[0]: 0.5, models[2]: 0.5}
    assert len(details["tried"]) == 3 + 2
    assert report.stages[0].scores["score"] == pytest.approx(0, abs=1e-4)
    assert_mean(report.folder, [(0.5, models[0]), (0.5, models[2])])


def test_between_two_the_best_share_is_taken(run, models, monkeypatch):
    tuning = score_by(monkeypatch, models[:2], [0.7, 0.3])
    report = run(how="between", models=models[:2], shares=[0.0, 0.5, 0.7, 1.0], tuning=tuning)
    assert_mean(report.folder, [(0.7, models[0]), (0.3, models[1])])


def test_checkpoints_of_a_training_are_merged(write_recipe, stages, tmp_path):
    stages["mix"] |= {"steps": 4, "tuning": None}
    soup = {"stage": "merge", "models": ["mix/checkpoints/checkpoint-*"], "how": "average", "max_tokens": 24}
    report = run_recipe(write_recipe(stages | {"soup": soup}), run_folder=tmp_path / "run", device="cpu")
    checkpoints = sorted((report.folder / "mix" / "checkpoints").glob("checkpoint-*"))
    assert [path.name for path in checkpoints] == ["checkpoint-2", "checkpoint-4"]
    assert_mean(report.folder, [(0.5, path) for path in checkpoints])
    assert Encoder(str(report.folder / "soup" / "model"), device="cpu").query_prefix == "q "


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ({"how": "greedy"}, r"how: greedy chooses by tuning scores: give tuning"),
        ({"how": "between", "tuning": {"root": "."}}, r"how: between needs the shares to try"),
        ({"how": "between", "tuning": {"root": "."}, "shares": [1.0]}, r"takes two models, not 3"),
        ({"how": "average", "shares": [1.0]}, r"merges 3 models, but shares names 1"),
        ({"how": "average", "models": ["nowhere/checkpoint-*"]}, r"no model is named like that"),
        ({"how": "average", "models": ["nothing"]}, r"Unknown model 'nothing'"),
    ],
)
def test_what_cannot_be_merged_is_told(run, merge, message):
    with pytest.raises(InputError, match=message):
        run(**merge)


def test_models_of_other_sizes_have_no_mean(run, models, tmp_path):
    (tmp_path / "other").mkdir()
    other = make_checkpoint(tmp_path / "other", kind="xlm-roberta")
    with pytest.raises(InputError, match=r"are not of one kind and size"):
        run(how="average", models=[models[0], str(other)])
