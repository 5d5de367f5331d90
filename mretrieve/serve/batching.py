"""Dynamic batching: texts of all requests share batches, and short work never waits behind long.

Two lanes, each with threads of its own. A query or a request of few tokens takes the short lane, which has
several threads that share the cores, others the long one, whose thread has a lower priority where the system
allows it, so that a query gets the processor even while documents are computed. Nothing waits for a batch to
fill: a batch is what has come while those before it were computed. Requests in a lane take turns, so that a
large one keeps no smaller one waiting.
"""

import asyncio
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.threads import cores, share_cores
from mretrieve.serve.errors import ApiError
from mretrieve.serve.served import ServedModel, Tokens
from mretrieve.serve.state import Embedded, Kind

if TYPE_CHECKING:
    from mretrieve.serve.metrics import Metrics
    from mretrieve.serve.models import ModelRegistry

SHORT_TOKENS = 128
"""Up to this many tokens a request is short: nearly all queries are."""

SHORT_BATCH_TOKENS = 1024
"""Tokens of short requests that are computed together, so that the next ones wait little."""

SHORT_THREADS = 2
"""Batches of short requests that are computed at once, at most."""

INLINE_CHARACTERS = 1000
"""Up to this much text is cut into tokens at once: a change of threads would take longer."""

MEMORY_SECONDS = 10.0
"""Over which the speed of a lane is averaged, for Retry-After."""
_NICENESS, _NICEST = 10, 19
_LONGEST_WAIT_SECONDS = 60


@dataclass(eq=False)
class _Job:
    """The texts of one request in a lane.

    `left` holds the rows that are not computed yet, the shortest first, to be taken from the end.
    """

    model: ServedModel
    ids: list[NDArray[np.int32]]
    kind: Kind
    done: "asyncio.Future[NDArray[np.float32]]"
    left: list[int] = field(default_factory=list)
    n_computed: int = 0
    result: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        self.left = sorted(range(len(self.ids)), key=lambda row: len(self.ids[row]))

    @property
    def waiting_tokens(self) -> int:
        return sum(len(self.ids[row]) for row in self.left)

    def put(self, rows: Sequence[int], vectors: NDArray[np.float32]) -> None:
        if self.result is None:
            self.result = np.empty((len(self.ids), vectors.shape[1]), np.float32)
        self.result[rows] = vectors
        self.n_computed += len(rows)
        if self.n_computed == len(self.ids) and not self.done.done():
            self.done.set_result(self.result)


class Lane:
    """One queue and the threads that empty it. Lives in one event loop.

    Args:
        name: `short` or `long`.
        n_threads: batches that are computed at once; they share the cores.
        batch_tokens: computed together, at most; None for what is best for the model.
        max_waiting_tokens: after which requests are turned away.
        metrics: where its figures go.

    Attributes:
        waiting_tokens: tokens that no batch has taken yet.
        waiting_texts: texts that no batch has taken yet.
    """

    def __init__(
        self,
        name: str,
        *,
        n_threads: int = 1,
        batch_tokens: int | None,
        max_waiting_tokens: int,
        metrics: "Metrics",
    ) -> None:
        self.name = name
        self.waiting_tokens = self.waiting_texts = 0
        self._batch_tokens, self._max_waiting = batch_tokens, max_waiting_tokens
        self._metrics = metrics
        self._jobs: deque[_Job] = deque()
        self._has_work = asyncio.Event()
        self._speed = _Speed()
        self._n_threads = self._idle = n_threads
        self._threads = ThreadPoolExecutor(
            n_threads, thread_name_prefix=f"mretrieve-{name}", initializer=self._start_thread
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def run(
        self, model: ServedModel, ids: list[NDArray[np.int32]], kind: Kind = "document"
    ) -> NDArray[np.float32]:
        """Have texts computed; a caller that is cancelled takes its texts out of the queue.

        Raises:
            ApiError: too much is waiting already (503).
        """
        n_tokens = sum(map(len, ids))
        # A single request that is larger than the whole queue may come when the queue is empty.
        if self.waiting_tokens and self.waiting_tokens + n_tokens > self._max_waiting:
            self._metrics.rejected.labels(reason="queue").inc()
            raise ApiError(
                503,
                "The server is busy: too much text is waiting. Try again later.",
                retry_after=self._speed.seconds_for(self.waiting_tokens),
            )
        if not self._tasks:
            name = f"mretrieve-{self.name}"
            self._tasks = [asyncio.create_task(self._work(), name=name) for _ in range(self._n_threads)]
        job = _Job(model, ids, kind, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._count(n_tokens, len(ids))
        self._has_work.set()
        try:
            return await job.done
        finally:
            if job.left:
                self._jobs.remove(job)
                self._count(-job.waiting_tokens, -len(job.left))

    async def close(self) -> None:
        """Stop; what is waiting is given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in self._jobs:
            if not job.done.done():
                job.done.set_exception(ApiError(503, "The server is stopping.", retry_after=5))
        await asyncio.to_thread(self._threads.shutdown)

    def _start_thread(self) -> None:
        if self.name == "long":
            be_nice()
        share_cores(max(1, cores() // self._n_threads))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._has_work.wait()
            batch = self._take()
            if not batch:
                self._has_work.clear()
                continue
            model = batch[0][0].model
            ids = [job.ids[row] for job, row in batch]
            compute = partial(
                model.embed,
                queries=all(job.kind == "query" for job, _ in batch),
                alone=self._idle == self._n_threads and not self._jobs,
            )
            start = time.perf_counter()
            self._idle -= 1
            try:
                vectors = await loop.run_in_executor(self._threads, compute, ids)
            except Exception as error:
                self._fail(batch, error)
                continue
            finally:
                self._idle += 1
            n_tokens = sum(map(len, ids))
            self._speed.note(n_tokens, time.perf_counter() - start)
            self._metrics.batch_texts.labels(lane=self.name).observe(len(ids))
            self._metrics.batch_tokens.labels(lane=self.name).observe(n_tokens)
            model.gears.note(n_tokens)
            self._deliver(batch, vectors)

    def _take(self) -> list[tuple[_Job, int]]:
        """The next batch: requests of one model take turns, each giving its longest text."""
        batch: list[tuple[_Job, int]] = []
        if not self._jobs:
            return batch
        model, tokens, others = self._jobs[0].model, 0, 0
        budget = self._batch_tokens or model.batch_tokens
        if self._idle > 1:  # each of them takes its part
            budget = min(budget, math.ceil(self.waiting_tokens / self._idle))
        while others < len(self._jobs):
            job = self._jobs[0]
            if job.model is not model:
                self._jobs.rotate(-1)
                others += 1
                continue
            length = len(job.ids[job.left[-1]])
            if batch and tokens + length > budget:
                break
            batch.append((job, job.left.pop()))
            tokens, others = tokens + length, 0
            self._jobs.popleft()
            if job.left:
                self._jobs.append(job)
        self._count(-tokens, -len(batch))
        return batch

    def _deliver(self, batch: Sequence[tuple[_Job, int]], vectors: NDArray[np.float32]) -> None:
        places: dict[_Job, list[int]] = {}
        for place, (job, _) in enumerate(batch):
            places.setdefault(job, []).append(place)
        for job, own in places.items():
            if not job.done.cancelled():
                job.put([batch[place][1] for place in own], vectors[own])

    def _fail(self, batch: Sequence[tuple[_Job, int]], error: Exception) -> None:
        """All requests that have a text in the batch get the error."""
        for job in {job for job, _ in batch}:
            if not job.done.done():
                job.done.set_exception(error)

    def _count(self, n_tokens: int, n_texts: int) -> None:
        self.waiting_tokens += n_tokens
        self.waiting_texts += n_texts
        self._metrics.waiting_tokens.labels(lane=self.name).set(self.waiting_tokens)
        self._metrics.waiting_texts.labels(lane=self.name).set(self.waiting_texts)


class _Speed:
    """Tokens a second, the last seconds counting most."""

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0

    def note(self, n_tokens: int, seconds: float) -> None:
        fade = math.exp(-seconds / MEMORY_SECONDS)
        self._tokens, self._seconds = self._tokens * fade + n_tokens, self._seconds * fade + seconds

    def seconds_for(self, n_tokens: int) -> int:
        if not self._tokens:
            return 1
        return max(1, min(math.ceil(n_tokens * self._seconds / self._tokens), _LONGEST_WAIT_SECONDS))


def be_nice() -> None:
    """Lower the priority of this thread and of those that it starts, as Linux can."""
    if sys.platform == "linux":
        with suppress(OSError):
            thread = threading.get_native_id()
            own = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(own + _NICENESS, _NICEST))


class Batcher:
    """Embeds texts for all requests of a server.

    Args:
        models: where names are looked up.
        max_tokens: of one call.
        max_waiting_tokens: of a lane.
        metrics: where figures go.
    """

    def __init__(
        self, models: "ModelRegistry", metrics: "Metrics", *, max_tokens: int, max_waiting_tokens: int
    ) -> None:
        self._models, self._metrics, self._max_tokens = models, metrics, max_tokens
        self.short = Lane(
            "short",
            n_threads=min(SHORT_THREADS, cores()),
            batch_tokens=SHORT_BATCH_TOKENS,
            max_waiting_tokens=max_waiting_tokens,
            metrics=metrics,
        )
        self.long = Lane("long", batch_tokens=None, max_waiting_tokens=max_waiting_tokens, metrics=metrics)
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="mretrieve-tokens")

    async def embed(
        self, texts: Sequence[str], model: ServedModel | str, kind: Kind, *, may_cut: bool = True
    ) -> Embedded:
        """Embed texts together with those of other requests.

        Args:
            texts: none of them empty.
            model: from the registry, or its name there.
            kind: which prompt they get.
            may_cut: whether a text that is longer than the model reads loses its end, or is an error.

        Raises:
            ApiError: there is no such model (404), there are too many tokens in all or in one text (400), or
                too much is waiting already (503).
        """
        served = self._models.find(model)[0] if isinstance(model, str) else model
        if not texts:
            return Embedded(np.empty((0, served.dim), np.float32), [])
        tokens = await self._tokenize(served, texts, kind)
        if tokens.total > self._max_tokens:
            raise ApiError(
                400,
                f"The texts have {tokens.total:,} tokens together, but a request may have "
                f"{self._max_tokens:,}. Send fewer at once.",
                param="input",
                code="max_tokens_per_request",
            )
        if tokens.cut and not may_cut:
            raise ApiError(
                400,
                f"{served.name} reads {served.max_length} tokens of a text, but {tokens.cut} of the texts "
                "are longer. Send shorter ones, or leave out `truncate` to have their ends cut.",
                param="input",
                code="context_length_exceeded",
            )
        # Somebody waits for the answer to a query, however long it is.
        is_short = tokens.total <= SHORT_TOKENS or (kind == "query" and len(texts) == 1)
        lane = self.short if is_short else self.long
        vectors = await lane.run(served, tokens.ids, kind)
        self._metrics.tokens.labels(model=served.name, kind=kind).inc(tokens.total)
        return Embedded(vectors, [len(ids) for ids in tokens.ids], tokens.cut)

    async def _tokenize(self, model: ServedModel, texts: Sequence[str], kind: Kind) -> Tokens:
        if model.is_loaded and sum(map(len, texts)) <= INLINE_CHARACTERS:
            return model.tokenize(texts, kind)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizing, model.tokenize, texts, kind)

    async def close(self) -> None:
        """Stop the threads; to be called when all requests have their answers."""
        await asyncio.gather(self.short.close(), self.long.close())
        await asyncio.to_thread(self._tokenizing.shutdown)
