"""Make transformers' Auto classes know NomicMoE, at once or when transformers is imported.

`import mretrieve.models` must stay light, for a search with a small encoder never needs transformers; so
the registration can wait for the moment when somebody else imports it.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_CONFIGS = "transformers.models.auto.configuration_auto"
_MODELS = "transformers.models.auto.modeling_auto"


def register() -> None:
    """Register config and model with `AutoConfig` and `AutoModel`; doing it again changes nothing."""
    from transformers import AutoModel

    from mretrieve.models.nomic_hub import NomicMoEConfig
    from mretrieve.models.nomic_moe import NomicMoEModel

    _register_config()
    AutoModel.register(NomicMoEConfig, NomicMoEModel, exist_ok=True)


def register_on_import() -> None:
    """Register now if transformers' Auto classes are loaded, else as soon as they are.

    This imports nothing itself. It puts one finder before Python's own, which lets them find those two
    modules and adds our registration after each; all other imports are left alone.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    for name, after in _STEPS.items():
        if name in sys.modules:
            after()
    if not _STEPS.keys() <= sys.modules.keys():
        sys.meta_path.insert(0, _Finder())


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from mretrieve.models.nomic_hub import NomicMoEConfig

    AutoConfig.register(NomicMoEConfig.model_type, NomicMoEConfig, exist_ok=True)


_STEPS: dict[str, Callable[[], None]] = {_CONFIGS: _register_config, _MODELS: register}


class _Finder:
    """A finder by its form; the base class in `importlib.abc` would cost every start milliseconds."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _STEPS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, _STEPS[name])  # type: ignore[assignment]
        return spec


class _Loader:
    """Another loader, and something to do after it has run a module."""

    def __init__(self, inner: Any, after: Callable[[], None]) -> None:
        self._inner, self._after = inner, after

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._inner.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The module keeps its own loader, for those who ask it for its source.
        module.__loader__ = self._inner
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        self._inner.exec_module(module)
        self._after()
