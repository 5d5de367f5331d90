"""The indexes that the page searches: found, opened when first used, opened anew when they were replaced."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from mretrieve import InputError, MissingDependencyError, Retriever
from mretrieve.milvus.address import is_milvus_address

logger = logging.getLogger("mretrieve.ui")

BUILT = Path("indexes/built")
"""Where indexes are looked for when none is named."""


class Library:
    """Indexes by name. Safe to use from several threads.

    Args:
        paths: folders written by `mretrieve index`, or addresses of collections in Milvus.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32`, `bf16` or `int8`.

    Raises:
        InputError: one of the folders holds no usable index.
    """

    def __init__(self, paths: Sequence[Path], *, device: str = "auto", dtype: str = "auto") -> None:
        self._device, self._dtype = device, dtype
        self._paths = dict(zip(_names(paths), paths, strict=True))
        self._lock = threading.Lock()
        self._open = {name: self._retriever(path) for name, path in self._paths.items()}

    @property
    def names(self) -> list[str]:
        """In the order in which the indexes were given."""
        return list(self._paths)

    def __getitem__(self, name: str) -> Retriever:
        """The retriever of an index, as it is on the disk now.

        Raises:
            InputError: there is no index of that name, or it is not usable any more.
        """
        if name not in self._paths:
            known = f"Choose from: {', '.join(self.names)}." if self.names else "No index is open."
            raise InputError(f"There is no index '{name}'. {known}")
        with self._lock:
            retriever = self._open[name]
            try:
                retriever.index.check_generation()
            except InputError:
                retriever = self._open[name] = self._retriever(self._paths[name])
            return retriever

    def _retriever(self, path: Path) -> Retriever:
        if is_milvus_address(path):
            from mretrieve.milvus.shown import CollectionRetriever

            return CollectionRetriever(path, with_legs=True, device=self._device, dtype=self._dtype)
        return Retriever(path, device=self._device, dtype=self._dtype)

    def warm_up(self) -> threading.Thread:
        """Load models and Java in the background, so that the first question need not wait for them."""

        def load() -> None:
            for name in self.names:
                try:
                    self[name].search("first", top_k=1)
                except (InputError, MissingDependencyError, OSError) as error:
                    logger.warning("%s: %s", name, error)  # the first question will say so too

        thread = threading.Thread(target=load, name="mretrieve-warm-up", daemon=True)
        thread.start()
        return thread


def find_indexes(folder: Path = BUILT) -> list[Path]:
    """Folders of indexes in a folder, by name; none where there is no such folder."""
    from mretrieve.index.manifest import is_index

    return sorted(path for path in folder.iterdir() if is_index(path)) if folder.is_dir() else []


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names, or whole paths where these are not different."""
    names = [path.absolute().name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
