"""One generation of an index that a server holds open."""

import logging
import threading
from typing import TYPE_CHECKING

from mretrieve.errors import MissingDependencyError
from mretrieve.index.manifest import Manifest
from mretrieve.rank.retriever import Retriever
from mretrieve.serve.errors import ApiError
from mretrieve.types import Mode

if TYPE_CHECKING:
    from mretrieve.serve.served import ServedModel

logger = logging.getLogger(__name__)


class ServedIndex:
    """One generation of an index, open for as long as somebody uses it.

    Attributes:
        name: what requests call it.
        retriever: searches it.
        model: makes vectors of its queries; None where it has no dense part or its model cannot be had.
        generation: 1 for the one that was there at the start, one more with each rebuilt one.
    """

    def __init__(self, name: str, retriever: Retriever, model: "ServedModel | None", generation: int) -> None:
        self.name = name
        self.retriever = retriever
        self.model = model
        self.generation = generation
        self.has_bm25 = False
        self._users = 1  # the registry itself
        self._lock = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        """What the index says of itself."""
        return self.retriever.index.manifest

    @property
    def modes(self) -> list[Mode]:
        """How it can be searched here, the best first."""
        if self.model is None:
            return ["bm25"] if self.has_bm25 else []
        return ["hybrid", "dense", "bm25"] if self.has_bm25 else ["dense"]

    def choose_mode(self, mode: Mode | None) -> Mode:
        """The mode of a search, the best one if none is asked for.

        Raises:
            ApiError: the index cannot be searched in this mode (400).
        """
        modes = self.modes
        if mode is None and modes:
            return modes[0]
        if mode in modes:
            return mode
        known = f"Choose from: {', '.join(modes)}." if modes else "It cannot be searched at all now."
        raise ApiError(
            400, f"The index '{self.name}' cannot be searched with mode '{mode}' here. {known}", param="mode"
        )

    def open_all(self) -> None:
        """Open all parts, so that a search never has to wait, and none depends on the folder any more.

        Raises:
            InputError: a part cannot be used.
            MissingDependencyError: nothing that could answer is installed.
        """
        if self.model is not None:
            self.model.load()
        index = self.retriever.index
        try:
            index.open_all()
        except MissingDependencyError as error:
            if self.model is None or index.dense is None:
                raise
            logger.warning("%s is searched without BM25. %s", self.name, error)
        else:
            self.has_bm25 = bool(index.lexical_languages)

    def hold(self) -> None:
        """Keep it open until `let_go`."""
        with self._lock:
            self._users += 1

    def let_go(self) -> None:
        """End what `hold` began; the last one closes it."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
        self.retriever.index.close()
