"""The weights with the best tuning score are those that stay."""

import json

import pytest
import torch
from safetensors.torch import load_file

from mretrieve.train import assemble
from mretrieve.train.runner import run_recipe


@pytest.fixture
def scores(monkeypatch):
    """Tuning scores that are read from a list; the weights at each are kept."""
    seen = []

    def make(values):
        def score(model):
            name = "encoder.layers.1.mlp.router.layer.weight"
            seen.append(model[0].model.state_dict()[name].clone())
            return {"score": values[len(seen) - 1]}

        monkeypatch.setattr(assemble, "scorer", lambda *a, **k: score)
        return seen

    return make


def test_the_best_checkpoint_is_chosen_by_the_tuning_score(write_recipe, stages, scores, tmp_path):
    stages["mix"] |= {"choose": "best", "steps": 4}
    stages["mix"]["tuning"]["every"] = 1
    seen = scores([0.1, 0.3, 0.7, 0.7, 0.2])  # before the first step and after each
    report = run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")
    assert report.stages[-1].scores == {"score": 0.7}
    assert report.stages[-1].details == {"steps": 4, "best_step": 2}, "of equal ones the earlier"
    model = load_file(tmp_path / "run" / "mix" / "model" / "model.safetensors")
    found = model["encoder.layers.1.mlp.router.layer.weight"]
    assert torch.equal(found, seen[2])
    assert not torch.equal(found, seen[4])
    assert not (tmp_path / "run" / "mix" / "best").exists()


def test_the_best_one_outlives_an_interruption(write_recipe, stages, scores, tmp_path):
    class Stop(Exception):
        pass

    def stop(label, done, total):
        if label == "mix" and done == 4:
            raise Stop

    stages["mix"] |= {"choose": "best", "steps": 6}
    stages["mix"]["tuning"]["every"] = 1
    recipe = write_recipe(stages)
    seen = scores([0.1, 0.9, 0.2, 0.3, 0.4, 0.2, 0.5, 0.2, 0.3, 0.4])
    with pytest.raises(Stop):
        run_recipe(recipe, run_folder=tmp_path / "run", device="cpu", on_progress=stop)
    kept = json.loads((tmp_path / "run" / "mix" / "best" / "best.json").read_text(encoding="utf-8"))
    assert kept == {"step": 1, "score": 0.9}
    report = run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
    assert report.stages[-1].details["best_step"] == 1
    assert report.stages[-1].scores == {"score": 0.9}
    model = load_file(tmp_path / "run" / "mix" / "model" / "model.safetensors")
    assert torch.equal(model["encoder.layers.1.mlp.router.layer.weight"], seen[1])


def test_the_last_one_stays_without_a_choice(write_recipe, stages, scores, tmp_path):
    stages["mix"] |= {"steps": 2}
    stages["mix"]["tuning"]["every"] = 1
    scores([0.9, 0.5, 0.1])
    report = run_recipe(write_recipe(stages), run_folder=tmp_path / "run", device="cpu")
    assert report.stages[-1].scores == {"score": 0.1}
