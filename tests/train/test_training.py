"""The stage `train` on small data: it learns, resumes exactly, and stops at what is no number."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.serve.served import trained_dimensions
from mretrieve.train.runner import run_recipe


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def weights(run):
    return load_file(run / "mix" / "model" / "model.safetensors")


def test_a_mix_of_objectives_trains_and_is_measured(write_recipe, stages, tmp_path):
    report = run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")
    mix = report.stages[-1]
    assert [stage.status for stage in report.stages] == ["done"] * 3
    assert {"score", "monolingual", "cross_map", "ndcg@10_sw"} <= mix.scores.keys()
    curves = json.loads((tmp_path / "run" / "mix" / "curves.json").read_text(encoding="utf-8"))
    assert [step for step, _ in curves["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in curves["eval_score"]] == [0, 4, 6]
    for name in ("align_ranking", "align_targets", "cross_ranking", "mono_similarities", "router_loss"):
        assert len(curves[name]) == 6, name
    before = load_file(tmp_path / "run" / "base" / "model" / "model.safetensors")
    after = weights(tmp_path / "run")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "encoder.layers.1.mlp.router.layer.weight" in changed
    assert "embeddings.word_embeddings.weight" not in changed
    vectors = Encoder(str(tmp_path / "run" / "mix" / "model"), device="cpu").encode_queries(["abcd", "efgh"])
    assert vectors.shape == (2, 32) and np.isfinite(vectors).all()


class Stop(Exception):
    """Stands for a kill."""


def stop_at(step):
    def on_progress(label, done, total):
        if label == "mix" and done == step:
            raise Stop

    return on_progress


def test_an_interrupted_run_goes_on_with_the_same_batches(write_recipe, stages, tmp_path):
    del stages["mix"]["tuning"]
    recipe = write_recipe(stages)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_recipe(recipe, run_folder=whole, device="cpu")
    with pytest.raises(Stop):
        run_recipe(recipe, run_folder=cut, device="cpu", on_progress=stop_at(5))
    newest = cut / "mix" / "checkpoints" / "checkpoint-4"
    broken = cut / "mix" / "checkpoints" / "checkpoint-5"  # as left by a kill while it is written
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(b"")
    assert (newest / "trainer_state.json").is_file()
    seen = []
    report = run_recipe(
        recipe,
        run_folder=cut,
        device="cpu",
        on_progress=lambda label, done, total: seen.append((label, done)),
    )
    assert [stage.status for stage in report.stages] == ["skipped", "skipped", "done"]
    assert [done for label, done in seen if label == "mix"] == [0, 5, 6]
    first, second = weights(whole), weights(cut)
    assert all(torch.equal(first[name], second[name]) for name in first)
    again = run_recipe(recipe, run_folder=cut, device="cpu")
    assert [stage.status for stage in again.stages] == ["skipped"] * 3


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(write_recipe, stages, tmp_path, monkeypatch):
    from mretrieve.train import losses

    del stages["mix"]["tuning"]
    made = losses.TargetLoss.compute_loss_from_embeddings
    calls = iter(range(100))

    def spoiled(self, embeddings, labels):
        return made(self, embeddings, labels) * (float("nan") if next(calls) == 3 else 1.0)

    monkeypatch.setattr(losses.TargetLoss, "compute_loss_from_embeddings", spoiled)
    with pytest.raises(InputError, match=r"loss of 'align' is nan at step 4, batch of 6 examples") as caught:
        run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")
    assert "parallel/ntrex-128.jsonl.xz ntrex-00" in str(caught.value)
    assert str(tmp_path / "run" / "mix" / "checkpoints" / "checkpoint-2") in str(caught.value)
    assert not (tmp_path / "run" / "mix" / "model").exists()


def test_a_gradient_that_is_no_number_stops_too(write_recipe, stages, tmp_path, monkeypatch):
    from mretrieve.train import student

    del stages["mix"]["tuning"]
    backward = student._Attach.backward

    def spoiled(ctx, gradient):
        return (gradient * float("inf"), *backward(ctx, gradient)[1:])

    monkeypatch.setattr(student._Attach, "backward", staticmethod(spoiled))
    with pytest.raises(InputError, match=r"The gradient's norm is nan at step 1"):
        run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")


def test_another_recipe_in_the_folder_is_refused(write_recipe, stages, tmp_path):
    del stages["mix"]
    run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")
    stages["base"]["experts"] = 2
    with pytest.raises(InputError, match=r"stage 'base' of another recipe \(experts: 4 there, 2 here\)"):
        run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")


def test_how_often_to_save_is_no_other_recipe(write_recipe, stages, tmp_path):
    del stages["mix"]["tuning"]
    stages["mix"]["steps"] = 2
    run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")
    stages["mix"]["save_every"] = 1
    report = run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")
    assert report.stages[-1].status == "skipped"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"objectives": {"align": {"data": "data/nothing", "targets": {}}}},
            r"reads 'data/nothing', but there is no",
        ),
        ({"objectives": {"align": {"data": "base", "targets": {}}}}, r"no data set that a stage has written"),
        ({"freeze": ["embedings.*"]}, r"no parameter of the model is named like 'embedings\.\*'"),
        ({"freeze": ["*"]}, r"nothing is left to train"),
        ({"max_tokens": 100}, r"max_tokens 100 is more than the 30"),
        ({"model": "base/nothing"}, r"reads 'base/nothing', but there is no"),
    ],
)
def test_what_does_not_fit_is_told(write_recipe, stages, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu", changes={"mix": change})


@pytest.mark.parametrize(
    "change",
    [
        {"mini_batch": 4},
        {"matryoshka": [16, 32]},
        {"mini_batch": 4, "matryoshka": [16, 32]},
        {"head": True},
        {"gradient_checkpointing": True},
        {"unpadded": False, "bf16": True},
        {"schedule": "wsd", "learning_rates": {"router": 0.01}},
    ],
    ids=str,
)
def test_every_way_to_train_runs(write_recipe, stages, tmp_path, change):
    del stages["mix"]["tuning"]
    stages["mix"] |= change | {"steps": 2}
    run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")
    encoder = Encoder(str(tmp_path / "run" / "mix" / "model"), device="cpu", dtype="fp32")
    assert encoder.query_prefix == "q "
    assert encoder.encode_queries(["abcd"]).shape == (1, 32)
    assert trained_dimensions(encoder) == ([32, 16] if "matryoshka" in change else [])
