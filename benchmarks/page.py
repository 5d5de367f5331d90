"""How quick the search page is, in a headless Chromium on the demonstration index.

`python benchmarks/page.py` prints the time from the start of `mretrieve ui` to its address, the first paint
of a browser that has seen nothing of the page, and the time from Enter to the hits on the screen: of the
first question, and median and 95th percentile of those after it, in a dozen languages.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from common import arguments, index_once, print_table, write_json
from servers import free_port

from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import SAMPLE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VISITS, ROUNDS = 5, 4
PAUSE_SECONDS = 1.0  # in which somebody reads, and the page marks the closest sentences
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SHOWN = """text => document.querySelector('#results .mr-results')?.dataset.query === text
    && !document.querySelector('#results.busy')"""
PAINTS = "() => performance.getEntriesByType('paint').map(one => one.startTime)"


def main() -> None:
    """Print the table."""
    options = arguments(__doc__).parse_args()
    from playwright.sync_api import sync_playwright

    index = index_once(SAMPLE)
    found = os.environ.get("MRETRIEVE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as driver, _page_of(index) as (url, start_seconds):
        chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        figures = {"start to address, s": start_seconds} | measure(chromium, url)
        chromium.close()
    print_table(["search page", ""], [[name, f"{value:.2f}"] for name, value in figures.items()])
    write_json(options.json, figures)


def measure(chromium: "Browser", url: str, *, visits: int = VISITS, rounds: int = ROUNDS) -> dict[str, float]:
    """Milliseconds of paints and answers.

    Args:
        chromium: runs.
        url: of the page.
        visits: of which the median is taken, each in a browser profile of its own.
        rounds: how often all questions are asked.
    """
    paints = []
    for _ in range(visits):
        page = chromium.new_page()  # with a cache of its own
        page.goto(url)
        page.locator("#query input").wait_for()
        paints.append(max(page.evaluate(PAINTS)))
        page.close()
    questions = {query.lang: query.text for query in read_queries(SAMPLE)}  # one of each language
    page = chromium.new_page()
    page.goto(url)
    page.locator("#query input").wait_for()
    first, *later = [_ask(page, text) for _ in range(rounds) for text in questions.values()]
    page.close()
    return {
        "first paint, ms": statistics.median(paints),
        "first answer, ms": first,
        "answers after it, p50 ms": float(np.percentile(later, 50)),
        "answers after it, p95 ms": float(np.percentile(later, 95)),
    }


def _ask(page: "Page", text: str) -> float:
    page.wait_for_timeout(PAUSE_SECONDS * 1000)
    page.locator("#query input").fill(text)
    start = time.perf_counter()
    page.keyboard.press("Enter")
    page.wait_for_function(SHOWN, arg=text)
    return (time.perf_counter() - start) * 1000


@contextmanager
def _page_of(index: Path) -> Iterator[tuple[str, float]]:
    """`mretrieve ui` at work: its address, and the seconds until it told it."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "mretrieve.cli", "ui", str(index), "--port", str(free_port())]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "(Ctrl-C stops it)" in line:
                yield line.split()[0], time.perf_counter() - start
                return
        raise RuntimeError("`mretrieve ui` does not start")
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
