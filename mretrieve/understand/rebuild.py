"""A model of other sizes out of changed tensors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.nomic_moe import NomicMoEModel


def rebuild(model: NomicMoEModel, tensors: Mapping[str, Tensor], **changes: Any) -> NomicMoEModel:
    """The same model with some tensors and some fields of its config changed; the old one stays as it is.

    Args:
        model: the old model.
        tensors: those that change, by name.
        changes: fields of `NomicConfig`.

    Returns:
        The new model, in evaluation mode; unchanged tensors are shared with the old one.
    """
    config = replace(model.sizes, **changes)
    with torch.device("meta"):
        new = NomicMoEModel(NomicMoEConfig(**config.to_dict()))
    new.load_state_dict(dict(model.state_dict()) | dict(tensors), strict=True, assign=True)
    new.train(False)
    return new
