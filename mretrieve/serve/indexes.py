"""The indexes of a server, by name; one that is rebuilt on disk takes its place without a restart.

A thread looks once a second whether an index was replaced. The new one is opened whole beside the old, then
all new requests go to it; those in flight finish on the old one, whose files stay mapped although their
folder is gone, and with the last of them it is closed.
"""

import asyncio
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index.manifest import MANIFEST, Manifest, check_encoder, is_index, read_manifest
from mretrieve.index.open import open_index
from mretrieve.milvus.address import is_milvus_address
from mretrieve.rank.retriever import Retriever
from mretrieve.serve.errors import ApiError
from mretrieve.serve.served_index import ServedIndex

if TYPE_CHECKING:
    from mretrieve.serve.models import ModelRegistry
    from mretrieve.serve.served import ServedModel
    from mretrieve.serve.settings import Settings

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often the disk is asked for newer indexes: one `stat` for each index."""

MAX_WAITING = 256
"""Searches that may wait for a thread before requests are turned away."""

_RETRY_POLLS = 10  # after a new index that could not be opened
_SPEC = re.compile(r"([\w.@-]{1,120})=(.+)")
_NOT_A_NAME = re.compile(r"[^\w.@-]")
_OURS_IN_THE_MAKING = (".building", ".replaced", ".partial")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an index is looked for, and what requests call it."""

    name: str
    path: Path


class IndexRegistry:
    """All indexes of a server; safe to use from several threads.

    Args:
        settings: names the folders: of an index, `NAME=FOLDER`, or a folder of indexes, in which new ones
            are found while the server runs; or addresses of collections in Milvus.
        models: those that the indexes need are added.
        poll_seconds: how often the disk is looked at.

    Raises:
        InputError: a folder is no index or damaged, two have the same name, or an index was built with
            other weights than there are.
    """

    def __init__(
        self, settings: "Settings", models: "ModelRegistry", *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._models = models
        self._poll_seconds = poll_seconds
        self._fixed, self._shelves = _sort_out(settings.indexes)
        self._lock = threading.Lock()
        self._served: dict[str, ServedIndex] = {}
        self._trouble: dict[str, tuple[str, int]] = {}
        self._missing: set[str] = set()
        self._loaders: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self._waiting = 0
        self._pool = ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="mretrieve-search")
        for place in self._places():
            if place.name in self._served:
                raise InputError(
                    f"Two indexes are called '{place.name}': give one of them another name, NAME=FOLDER."
                )
            self._served[place.name] = self._make(place, 1)

    @property
    def all(self) -> list[ServedIndex]:
        """The indexes in use, by name."""
        with self._lock:
            return [self._served[name] for name in sorted(self._served)]

    def open_with(self, work: Callable[[], None]) -> None:
        """Have something else loaded by `open`, that requests need too."""
        self._loaders.append(work)

    def open(self) -> None:
        """Open all parts of all indexes, and begin to watch for newer ones. Takes its time.

        Raises:
            InputError: a part cannot be used.
            MissingDependencyError: FAISS, Lucene or Java is not installed.
        """
        for served in self.all:
            served.open_all()
        for work in self._loaders:
            work()
        self._watcher = threading.Thread(target=self._watch, name="mretrieve-indexes", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Stop watching, and close the indexes that no request uses any more."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        self._pool.shutdown()
        with self._lock:
            served, self._served = list(self._served.values()), {}
        for one in served:
            one.let_go()

    @contextmanager
    def use(self, name: str | None) -> Iterator[ServedIndex]:
        """The newest generation of an index, which stays open until the end of the block.

        Args:
            name: of the index; None for the only one.

        Raises:
            ApiError: there is no such index (404), or there are several to choose from (400).
        """
        with self._lock:
            served = self._find(name)
            served.hold()
        try:
            yield served
        finally:
            served.let_go()

    async def run(self, served: ServedIndex, work: Callable[[], _T]) -> _T:
        """Do blocking work on an index in a thread of our own, one that Java knows already.

        The index is held until the work has ended, even where the caller is gone before.

        Raises:
            ApiError: too many searches are waiting (503).
        """
        with self._lock:
            if self._waiting >= MAX_WAITING:
                raise ApiError(
                    503, "The server is busy: too many searches are waiting. Try again later.", retry_after=1
                )
            self._waiting += 1
        served.hold()

        def ended(_: object) -> None:
            with self._lock:
                self._waiting -= 1
            served.let_go()

        future = self._pool.submit(work)
        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    def refresh(self) -> None:
        """Look at the disk once: open what was rebuilt or is new, drop what is gone from a folder of indexes.

        What cannot be opened is told in the log; its older generation, if there is one, stays in use.
        """
        try:
            places = self._places()
        except OSError:  # away for a moment, as network drives are: what is open stays in use
            return
        for place in places:
            served = self._served.get(place.name)
            if served is None or served.retriever.index.is_replaced:
                self._take_in(place)
        missing = self._served.keys() - {place.name for place in places}
        for name in missing & self._missing:  # one that is away but once is being replaced by hand
            self._put(name, None)
        self._missing = missing - self._missing

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self.refresh()
            except Exception as error:  # whatever it is, requests go on being answered
                logger.warning("Looking for newer indexes failed: %s", type(error).__name__)

    def _take_in(self, place: Place) -> None:
        """Open a new generation, and let it take the old one's place."""
        told, polls = self._trouble.get(place.name, ("", 0))
        if polls:
            self._trouble[place.name] = (told, polls - 1)
            return
        old = self._served.get(place.name)
        try:
            new = self._make(place, old.generation + 1 if old else 1)
            try:
                new.open_all()
            except BaseException:
                new.let_go()
                raise
        except (InputError, MissingDependencyError, OSError) as error:
            if str(error) != told:
                stays = " The one before stays in use." if old else ""
                logger.warning("The new index %s is not used: %s%s", place.name, error, stays)
            self._trouble[place.name] = (str(error), _RETRY_POLLS)
            return
        self._trouble.pop(place.name, None)
        self._put(place.name, new)
        logger.info("Index %s: generation %d is in use.", place.name, new.generation)

    def _put(self, name: str, new: ServedIndex | None) -> None:
        with self._lock:
            old = self._served.pop(name, None)
            if new is not None:
                self._served[name] = new
        if old is not None:
            old.let_go()

    def _make(self, place: Place, generation: int) -> ServedIndex:
        if is_milvus_address(place.path):
            return self._make_from_milvus(place, generation)
        # Reading is enough for one that is there; for all else opening says what is wrong.
        manifest = read_manifest(place.path) if is_index(place.path) else open_index(place.path).manifest
        model = self._model_of(place, manifest)
        name = None if model is None else model.encoder.name
        encoder = None if model is None else model.encoder
        retriever = Retriever(
            place.path,
            model=name,
            device="auto" if encoder is None else encoder.device,
            dtype="auto" if encoder is None else encoder.dtype,
        )
        return ServedIndex(place.name, retriever, model, generation)

    def _make_from_milvus(self, place: Place, generation: int) -> ServedIndex:
        from mretrieve.milvus.shown import CollectionRetriever

        retriever = CollectionRetriever(place.path)
        try:
            model = self._model_of(place, retriever.index.manifest)
        except BaseException:
            retriever.index.close()
            raise
        return ServedIndex(place.name, retriever, model, generation)

    def _model_of(self, place: Place, manifest: Manifest) -> "ServedModel | None":
        """What encodes queries as the index's documents were encoded."""
        made_by = manifest.encoder
        if made_by is None:
            return None
        prefixes = (made_by.query_prefix, made_by.document_prefix)
        for model in self._models.all:
            encoder = model.encoder
            if (encoder.query_prefix, encoder.document_prefix) == prefixes:
                with suppress(InputError):
                    check_encoder(manifest, encoder.name, encoder.fingerprint)
                    return model
        try:
            model = self._models.add(made_by.model, query_prefix=prefixes[0], document_prefix=prefixes[1])
        except InputError as error:
            if all(entry.analyzer is None for entry in manifest.languages.values()):
                raise
            logger.warning("The index %s is searched by BM25 only: %s", place.name, error)
            return None
        check_encoder(manifest, model.encoder.name, model.encoder.fingerprint, path=place.path)
        return model

    def _places(self) -> list[Place]:
        return [*self._fixed, *(place for shelf in self._shelves for place in _on_shelf(shelf))]

    def _find(self, name: str | None) -> ServedIndex:
        known = ", ".join(sorted(self._served)) or "none, for this server has no index"
        if name is None and len(self._served) == 1:
            return next(iter(self._served.values()))
        if name is None and self._served:
            raise ApiError(400, f"Name the index to search. Choose from: {known}.", param="index")
        if name is None or name not in self._served:
            raise ApiError(
                404,
                f"There is no index {name!r:.150}. Choose from: {known}." if name else f"Indexes: {known}.",
                param="index",
                code="index_not_found",
            )
        return self._served[name]


def _sort_out(paths: tuple[Path, ...]) -> tuple[list[Place], list[Path]]:
    """Indexes, and folders of indexes."""
    fixed, shelves = [], []
    for path in paths:
        spec = _SPEC.fullmatch(str(path))
        if spec and not path.exists():
            fixed.append(Place(spec[1], Path(spec[2])))
        elif _is_shelf(path):
            shelves.append(path)
        else:
            fixed.append(Place(_public_name(path), path))
    return fixed, shelves


def _is_shelf(path: Path) -> bool:
    """Whether a folder is one of indexes; an empty one may become one."""
    if not path.is_dir() or (path / MANIFEST).exists():
        return False
    return not any(path.iterdir()) or any(is_index(child) for child in path.iterdir())


def _on_shelf(shelf: Path) -> list[Place]:
    try:
        folders = sorted(child for child in shelf.iterdir() if (child / MANIFEST).is_file())
    except FileNotFoundError:  # a folder that was removed has no indexes any more
        return []
    return [
        Place(_public_name(folder), folder)
        for folder in folders
        if not folder.name.startswith(".") and not folder.name.endswith(_OURS_IN_THE_MAKING)
    ]


def _public_name(path: Path) -> str:
    return _NOT_A_NAME.sub("-", path.resolve().name) or "index"
