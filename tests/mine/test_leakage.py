from pathlib import Path

import pytest

from mretrieve.datasets.source import SAMPLE
from mretrieve.errors import InputError
from mretrieve.mine.leakage import check_folder, check_split


@pytest.mark.parametrize(
    "name",
    [
        "data/eval/en-tydiqa",
        "data/xquad/de",
        "data/xquad-r",
        "my-XQuAD-copy",
        "evaluation",
        "train/eval",
        SAMPLE,
    ],
)
def test_evaluation_sets_are_refused(name):
    with pytest.raises(InputError, match="is for evaluation .* must not be mined from"):
        check_folder(Path(name), "mined from")


@pytest.mark.parametrize(
    "name", ["data/train/en-qed", "eval-project/data/train/en-qed", "medieval", "evaluate"]
)
def test_others_are_not(name):
    check_folder(Path("/data", name), "mined from")


def test_splits():
    check_split("train")
    check_split("train-xling")
    for split in ("dev", "test", "pretrain"):
        with pytest.raises(InputError, match=f"The split '{split}' is not for training"):
            check_split(split)
