"""Packing a finished run: what the recipe says is found, and what does not fit is told."""

import pytest
import torch
import yaml

from mretrieve.errors import InputError
from mretrieve.models.embedded import embedded_folder
from mretrieve.models.nomic_files import save_nomic_moe
from mretrieve.models.upcycle import upcycle
from mretrieve.train.packing import pack_run

STAGE = {"stage": "upcycle", "name": "base", "base": "e5-small", "experts": 2, "last": 1, "seed": 3}


def write_run(folder, **change):
    folder.mkdir()
    content = {"name": "run", "stages": [STAGE | change]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.slow
def test_a_run_is_packed_with_the_upcycling_of_its_recipe(tmp_path):
    run = write_run(tmp_path / "run")
    model = upcycle(embedded_folder(), moe_layers=[11], num_experts=2, top_k=2, seed=3)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.encoder.layers[11].parameters():
            parameter.add_(0.02 * torch.randn_like(parameter) * parameter.std(correction=0))
    save_nomic_moe(model, run / "base" / "model", tokenizer=embedded_folder())
    report = pack_run(run, tmp_path / "packed", version="7")
    assert 1_000_000 < report.bytes < 5_000_000
    assert 0.9999 < report.cosine_least <= report.cosine_mean <= 1.00001
    assert '"version": "7"' in (tmp_path / "packed" / "release.json").read_text()


def test_a_run_that_is_not_finished_is_told(tmp_path):
    with pytest.raises(InputError, match=r"has no base/model: run the recipe to its end"):
        pack_run(write_run(tmp_path / "run"), tmp_path / "packed", version="1")


def test_only_what_was_made_of_the_embedded_model_can_be_packed(tmp_path):
    run = write_run(tmp_path / "run", dense=True)
    (run / "base" / "model").mkdir(parents=True)
    with pytest.raises(InputError, match="upcycles no e5-small: only such models can be packed"):
        pack_run(run, tmp_path / "packed", version="1")
    assert not (tmp_path / "packed").exists()
