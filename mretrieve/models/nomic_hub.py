"""The config of NomicMoE as transformers wants it; importing this loads transformers, but not torch."""

from dataclasses import fields
from typing import Any

from transformers import PretrainedConfig

from mretrieve.models.nomic_config import MODEL_TYPE, NomicConfig, parse_config


class NomicMoEConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """`NomicConfig` with transformers' own fields beside it.

    Args:
        kwargs: all fields of `NomicConfig`, and any of transformers' own.

    Raises:
        InputError: as `NomicConfig`.
    """

    model_type = MODEL_TYPE

    def __init__(self, **kwargs: Any) -> None:
        # transformers makes an empty one to learn which fields differ from the defaults.
        own = parse_config(kwargs | {"model_type": MODEL_TYPE}).to_dict() if kwargs else {}
        super().__init__(**(kwargs | own))

    @property
    def sizes(self) -> NomicConfig:
        """The checked, immutable config that the layers are built from."""
        return NomicConfig(**{field.name: getattr(self, field.name) for field in fields(NomicConfig)})
