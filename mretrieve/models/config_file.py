"""The `config.json` of checkpoint folders, read without torch: official NomicBert's and our own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mretrieve.errors import InputError
from mretrieve.models.nomic_config import MODEL_TYPE, NomicConfig, parse_config
from mretrieve.models.nomic_official import is_official, parse_official
from mretrieve.models.weights import read_json


def is_nomic(content: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a NomicMoE or NomicBert, official or ours."""
    return is_official(content) or content.get("model_type") == MODEL_TYPE


def read_nomic_config(folder: Path) -> NomicConfig:
    """The config of a checkpoint folder, official or ours.

    Raises:
        InputError: there is none, or it is not one of a NomicMoE.
    """
    content = read_config_file(folder)
    try:
        return parse_official(content) if is_official(content) else parse_config(content)
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from error


def read_config_file(folder: Path) -> dict[str, Any]:
    """The `config.json` of any checkpoint folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(f"{folder} has no config.json: give the folder of a checkpoint.")
    return read_json(file)
