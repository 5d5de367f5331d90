"""Presets, prompts and what the trainer is given."""

import pytest

from mretrieve.errors import InputError
from mretrieve.train.assemble import prompts_of
from mretrieve.train.runner import run_recipe


def test_prompts_are_the_models_own(base):
    assert prompts_of(str(base)) == {"query": "q ", "passage": "p "}


def test_a_teacher_of_another_length_does_not_fit(write_recipe, stages, e5_folder, tmp_path):
    recipe = write_recipe(stages)
    with pytest.raises(InputError, match=r"has 384 dimensions and the student 32"):
        run_recipe(
            recipe, run_folder=tmp_path / "run", device="cpu", changes={"mix": {"teacher": str(e5_folder)}}
        )
