"""Keep what models are measured on out of what they are trained on."""

import re
from pathlib import Path

from mretrieve.datasets.source import SAMPLE
from mretrieve.errors import InputError

_TRAINING = "train"


def check_folder(folder: Path, purpose: str) -> None:
    """Make sure that a folder is not an evaluation set.

    Args:
        folder: a data set or an index.
        purpose: what it was to be used for: "mined from".

    Raises:
        InputError: it is one, by its name or that of a folder above it: `eval`, or anything with `xquad`.
            A folder `train` in between speaks for it.
    """
    path = SAMPLE if str(folder) == "sample" else folder.expanduser().resolve()
    mark = ""
    for name in path.parts:
        mark = name if _is_evaluation(name) else "" if name.lower() == _TRAINING else mark
    if path.is_relative_to(SAMPLE):
        mark = "the package's sample, a part of XQuAD"
    if mark:
        raise InputError(
            f"{folder} is for evaluation ({mark}) and must not be {purpose}: a model trained on it could not "
            "be measured any more. Give a folder of training data."
        )


def check_split(split: str) -> None:
    """Make sure that a split is one to train on.

    Raises:
        InputError: its name does not start with `train`.
    """
    if not split.startswith(_TRAINING):
        raise InputError(
            f"The split '{split}' is not for training, or its name would start with '{_TRAINING}': choose "
            "a training split, or say by --any-split that this one may be trained on."
        )


def _is_evaluation(name: str) -> bool:
    words = re.split("[^a-z]+", name.lower())
    return "xquad" in name.lower() or not {"eval", "evaluation"}.isdisjoint(words)
