"""Packages that only the reports of this room need."""

import importlib
from typing import Any

from mretrieve.errors import MissingDependencyError


def optional(module: str) -> Any:
    """Import a module of an optional package.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise MissingDependencyError(
            f"Reports on routing need {package}, which is not installed. "
            "Run `pip install 'mretrieve[train]'`."
        ) from error
