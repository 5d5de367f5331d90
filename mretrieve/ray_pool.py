"""Share the shards of a build out among workers of Ray, and replace those that end."""

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.index.manifest import EncoderIdentity
from mretrieve.index.stages import EncodedShards

logger = logging.getLogger(__name__)

AHEAD = 2
"""Shards that a worker holds: one that it encodes, and the next, so that it never waits."""

TRIES = 3
"""Workers that may end over one shard, or before they are ready, until the build stops."""

PATIENCE_SECONDS = 60.0

Shard = tuple[int, list[str]]
"""Its number, and the text of each of its documents."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all workers are to compute alike.

    Attributes:
        encoder: the model, and the number type that it computes in.
        device: `cpu` or `cuda`, at the workers.
        n_tokens: of all texts, about; it chooses the backend.
    """

    encoder: EncoderIdentity
    device: str
    n_tokens: int


@dataclass(frozen=True, slots=True)
class RayEncoding:
    """Encodes the shards of a build on the workers of a cluster.

    Attributes:
        ray: the package, connected.
        job: what the workers compute.
        n_workers: how many there are to be.
        needs: what Ray sets aside for each, as in `{"num_cpus": 4}`.
    """

    ray: Any
    job: Job
    n_workers: int
    needs: Mapping[str, int]

    def encode_shards(self, shards: Iterable[Shard]) -> EncodedShards:
        """Give each shard to a worker.

        Args:
            shards: number and texts of each; taken as workers get free.

        Yields:
            Number and (n, dim) float32 unit vectors of each shard, in the order in which they are done.

        Raises:
            InputError: workers do not start, have another model, or end again and again.
        """
        source = iter(shards)
        first = next(source, None)
        if first is None:
            return
        pool = _Pool(self, deque([first]), source)
        try:
            yield from pool.results()
        finally:
            pool.close()


class _Worker:
    """Encodes, in a process of its own that Ray starts somewhere."""

    def open(self, job: Job, version: str) -> tuple[str, int]:
        """Load the model, and make sure that it is the same as everywhere.

        Returns:
            The name of this machine, and the number of this process.
        """
        from mretrieve.encode.encoder import Encoder

        place, mine = socket.gethostname(), metadata.version("mretrieve")
        if mine != version:
            raise InputError(f"The worker on {place} has mretrieve {mine}, but {version} builds the index.")
        model = job.encoder
        try:
            encoder = Encoder.of_index(model, device=job.device, dtype=model.dtype)
            encoder.expect(job.n_tokens)
            fingerprint = encoder.fingerprint
        except InputError as error:
            raise InputError(f"The worker on {place} cannot open the model. {error}") from error
        if fingerprint != model.fingerprint:
            raise InputError(
                f"The worker on {place} has other weights of {model.model} than this machine. "
                "Put the same model on every machine."
            )
        self.encoder = encoder
        return place, os.getpid()

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """(n, dim) float32 unit vectors of n documents."""
        return self.encoder.encode_documents(texts)


@dataclass(eq=False, slots=True)
class _Hand:
    """One worker as the pool sees it; `held` are its shards by what Ray promises for each, oldest first."""

    actor: Any
    place: str = ""
    held: dict[Any, Shard] = field(default_factory=dict)


class _Pool:
    """Shares shards out among workers, and replaces those that end."""

    def __init__(self, encoding: RayEncoding, waiting: deque[Shard], source: Iterator[Shard]) -> None:
        self.ray, self.job, self.needs = encoding.ray, encoding.job, encoding.needs
        self.actor_class = self.ray.remote(_Worker).options(max_restarts=0, **encoding.needs)
        self.waiting, self.source = waiting, source
        self.opening: dict[Any, _Hand] = {}
        self.open: list[_Hand] = []
        self.ended: Counter[int] = Counter()  # workers over each shard
        self.never_ready = 0
        logger.debug("Ray: %d workers, each with %s.", encoding.n_workers, _in_words(self.needs))
        for _ in range(encoding.n_workers):
            self._start_worker()

    def results(self) -> EncodedShards:
        """Number and vectors of each shard, as they are done."""
        while self._share_out():
            busy = {ref: hand for hand in self.open for ref in hand.held}
            refs = [*busy, *self.opening]
            done, _ = self.ray.wait(refs, num_returns=1, timeout=PATIENCE_SECONDS)
            if not done and not self.open:
                logger.warning(
                    "No worker of Ray is ready yet. Each waits for %s to be free.", _in_words(self.needs)
                )
            for ref in done:
                if ref in self.opening:
                    self._opened(ref)
                else:
                    yield from self._finished(busy[ref], ref)

    def close(self) -> None:
        """End all workers."""
        for hand in [*self.open, *self.opening.values()]:
            self.ray.kill(hand.actor)

    def _start_worker(self) -> None:
        hand = _Hand(self.actor_class.remote())
        self.opening[hand.actor.open.remote(self.job, metadata.version("mretrieve"))] = hand

    def _share_out(self) -> bool:
        """Fill the workers' hands, evenly; false when there is nothing to do and nothing under way."""
        for n_held in range(AHEAD):
            for hand in self.open:
                if len(hand.held) == n_held and (shard := self._next()) is not None:
                    hand.held[hand.actor.encode.remote(shard[1])] = shard
        return any(hand.held for hand in self.open) or self._has_more()

    def _has_more(self) -> bool:
        if not self.waiting and (shard := next(self.source, None)) is not None:
            self.waiting.append(shard)
        return bool(self.waiting)

    def _next(self) -> Shard | None:
        return self.waiting.popleft() if self._has_more() else None

    def _opened(self, ref: Any) -> None:
        hand = self.opening.pop(ref)
        try:
            hand.place, process = self._get(ref)
        except self.ray.exceptions.RayError as error:
            self.never_ready += 1
            if self.never_ready == TRIES:
                raise InputError(
                    f"Ray's workers end before they are ready ({reason_of(error)}). Each machine needs "
                    f"mretrieve {metadata.version('mretrieve')}, the model, and memory for it."
                ) from error
            self._replace(hand, error)
        else:
            logger.debug("Ray: a worker on %s is ready, process %d.", hand.place, process)
            self.never_ready = 0
            self.open.append(hand)

    def _finished(self, hand: _Hand, ref: Any) -> EncodedShards:
        try:
            vectors = self._get(ref)
        except self.ray.exceptions.RayError as error:
            shard = next(iter(hand.held.values()))[0]
            self.ended[shard] += 1
            if self.ended[shard] == TRIES:
                raise InputError(
                    f"{TRIES} workers in turn have ended over the same documents ({reason_of(error)}). "
                    "Mostly memory is short: have fewer workers, with more cores each (--ray-cores)."
                ) from error
            self._replace(hand, error)
        else:
            yield hand.held.pop(ref)[0], vectors

    def _get(self, ref: Any) -> Any:
        """The result; what went wrong in the worker's own code comes as it was raised there."""
        try:
            return self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from None

    def _replace(self, hand: _Hand, error: Exception) -> None:
        """Give a worker's shards back, to be the next ones, and start another in its place."""
        logger.warning(
            "A worker%s has ended (%s). Others take over what it had.",
            f" on {hand.place}" if hand.place else "",
            reason_of(error),
        )
        self.waiting.extendleft(reversed(hand.held.values()))
        hand.held.clear()
        if hand in self.open:
            self.open.remove(hand)
        self.ray.kill(hand.actor)
        self._start_worker()


def reason_of(error: Exception) -> str:
    """The one sentence that matters in a page of Ray's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = next((line for line in lines if line.startswith("The actor is dead because ")), lines[-1])
    return told.removeprefix("The actor is dead because ").partition(". ")[0].rstrip(".")[:200]


def _in_words(needs: Mapping[str, int]) -> str:
    """`{"num_gpus": 1, "num_cpus": 2}` -> `1 GPU and 2 CPU cores`."""
    names = {"num_gpus": "GPU", "num_cpus": "CPU core"}
    return " and ".join(f"{n} {names[name]}{'s' if n > 1 else ''}" for name, n in needs.items())
