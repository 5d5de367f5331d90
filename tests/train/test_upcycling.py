"""The stage `upcycle`: all that upcycling takes can be said in a recipe."""

import pytest

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.errors import InputError
from mretrieve.models.nomic_files import load_nomic_moe
from mretrieve.models.upcycle import FIELDS
from mretrieve.train.runner import run_recipe
from mretrieve.train.upcycling import UpcycleStage


@pytest.fixture
def run(write_recipe, base, tmp_path):
    def run(**change):
        recipe = write_recipe({"base": {"stage": "upcycle", "base": str(base)} | change})
        run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")
        return tmp_path / "run" / "base" / "model"

    return run


def test_every_field_of_upcycling_is_a_key():
    assert set(FIELDS) <= UpcycleStage.model_fields.keys()


def test_the_model_is_as_the_recipe_says(run):
    folder = run(experts=4, router="xmoe", router_dim=8, balance_loss="switch", hidden_dropout=0.1)
    sizes = load_nomic_moe(folder).sizes
    assert (sizes.num_experts, sizes.router, sizes.router_dim) == (4, "xmoe", 8)
    assert (sizes.balance_loss, sizes.hidden_dropout, sizes.moe_layers) == ("switch", 0.1, (1,))
    assert find_checkpoint(str(folder)).query_prefix == "q "


def test_a_dense_student_has_no_experts(run):
    assert load_nomic_moe(run(dense=True)).sizes.moe_layers == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"router": "sofmax"}, r"Unknown router 'sofmax'"),
        ({"router": "language"}, r"needs the field languages"),
        ({"experts": 2, "top_k": 3}, r"moe_top_k must be between 1 and num_experts"),
        ({"base": "nothing"}, r"Unknown model 'nothing'"),
        ({"way": "sparse"}, r"way: input should be 'exact' or 'nomic'"),
    ],
)
def test_what_does_not_fit_is_told(run, change, message):
    with pytest.raises(InputError, match=message):
        run(**change)
