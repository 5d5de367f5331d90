"""Progress of long work on stderr: bars on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mretrieve.report import tell

OnProgress = Callable[[str, int, int | None], None]
"""Told of a stage's name, how much of it is done, and of how much (None when unknown)."""

SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress(*, resumable: bool = False) -> Iterator[OnProgress]:
    """Show the progress of work in stages.

    Args:
        resumable: whether the work goes on where it stopped, which is told at Ctrl-C.

    Yields:
        What the work is to call.
    """
    try:
        if sys.stderr is not None and sys.stderr.isatty():
            with _bars() as on_progress:
                yield on_progress
        else:
            yield _lines()
    except KeyboardInterrupt:
        tell("Stopped. The same command goes on from here." if resumable else "Stopped.")
        raise


def _lines() -> OnProgress:
    last = time.monotonic()

    def on_progress(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            tell(f"{stage}: {done:,}" + (f" of {total:,}" if total else ""))

    return on_progress


@contextmanager
def _bars() -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    class WithRate(Progress):
        def get_renderables(self) -> Iterator[Any]:
            for task in self.tasks:
                speed = task.finished_speed or task.speed
                task.fields["rate"] = f"{speed:,.0f}/s" if speed else ""
            yield self.make_tasks_table(self.tasks)

    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with WithRate(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def on_progress(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield on_progress
