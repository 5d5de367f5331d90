"""A page served by the real command, a real browser, and indexes for both."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mretrieve.indexing import build_index
from mretrieve.recipe import read_recipe
from tests.models.nomic import official_folder

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SERVER_SECONDS = 240
RUN = """
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo") and not isinstance(arguments[-1], str):
        where = arguments[1] if event == "socket.connect" else arguments[0]
        sys.stderr.write(f"CONNECT {where}\\n")
sys.addaudithook(watch)
from mretrieve.cli import main
main()
"""


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The index that `make demo` builds."""
    path = tmp_path_factory.mktemp("indexes") / "demo"
    build_index("sample", path, recipe=read_recipe(ROOT / "indexes" / "sample.yaml"))
    return path


@pytest.fixture(scope="session")
def sparse_model(tmp_path_factory):
    """A small mixture of experts with random weights."""
    return official_folder(tmp_path_factory.mktemp("sparse") / "model")


@pytest.fixture(scope="session")
def sparse_index(tmp_path_factory, sparse_model, collection):
    """A small index whose model has experts."""
    path = tmp_path_factory.mktemp("indexes") / "sparse"
    build_index(collection, path, model=str(sparse_model))
    return path


@pytest.fixture(scope="session")
def words_index(tmp_path_factory, collection):
    """A small index without vectors."""
    path = tmp_path_factory.mktemp("indexes") / "words"
    build_index(collection, path, dense=False)
    return path


@dataclass
class Served:
    """A running `mretrieve ui`."""

    process: subprocess.Popen
    url: str
    log: Path

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def serve(log, *arguments, cwd=None, **environment):
    """Start `mretrieve ui ARGUMENTS...` and wait for its address, which it tells on stderr."""
    command = [sys.executable, "-c", RUN, "ui", *map(str, arguments)]
    settings = os.environ | {"PYTHONUNBUFFERED": "1"} | environment
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=settings, cwd=cwd)
    until = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < until:
        said = log.read_text(encoding="utf-8", errors="replace")
        if process.poll() is not None:
            pytest.fail(f"mretrieve ui ended with status {process.returncode}: {said}")
        if "(Ctrl-C stops it)" in said:
            address = next(line for line in said.splitlines() if "(Ctrl-C" in line)
            return Served(process, address.split()[0], log)
        time.sleep(0.1)
    process.kill()
    pytest.fail(f"mretrieve ui did not start within {SERVER_SECONDS} s: {said}")


def free_port():
    """A port that nobody listens at."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def served(tmp_path_factory, demo, sparse_index):
    """The page over the demonstration index and a sparse one, at the port that the environment names."""
    pytest.importorskip("gradio", reason="Gradio is not installed")
    port = str(free_port())
    running = serve(
        tmp_path_factory.mktemp("served") / "log",
        demo,
        sparse_index,
        GRADIO_SERVER_PORT=port,
        GRADIO_SERVER_NAME="127.0.0.1",
    )
    assert running.url == f"http://127.0.0.1:{port}/"
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium: the system's, or the one that playwright has fetched.

    For one module only: while playwright is there, other tests cannot start an event loop.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    named = os.environ.get("MRETRIEVE_CHROMIUM")
    found = named or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with playwright.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser starts ({str(error).splitlines()[0]}); `make browser` installs one")
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """An open page, and what went on behind it."""

    page: object
    hosts: set = field(default_factory=set)
    errors: list = field(default_factory=list)

    def ask(self, text):
        """Type a question and press Enter; wait for its hits."""
        self.page.locator("#query input").fill(text)
        self.page.keyboard.press("Enter")
        self.wait_for_hits(text)

    def wait_for_hits(self, text):
        self.page.wait_for_function(
            """text => document.querySelector('#results .mr-results')?.dataset.query === text
            && !document.querySelector('#results.busy')""",
            arg=text,
        )

    def tab(self, name):
        self.page.get_by_role("tab", name=name, exact=True).click()

    def shoot(self, name):
        """Write a screenshot, if a folder for them is named."""
        if folder := os.environ.get("MRETRIEVE_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")


def opened(context, url):
    """Open a page and keep watch: requests, console, exceptions, failed replies."""
    page = context.new_page()
    page.set_default_timeout(90_000)
    visit = Visit(page)
    page.on("request", lambda request: visit.hosts.add(request.url.split("/")[2]))
    page.on("console", lambda line: visit.errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.on(
        "response",
        lambda reply: visit.errors.append(f"{reply.status} {reply.url}") if reply.status >= 400 else None,
    )
    page.goto(url)
    page.locator("#query input").wait_for()
    return visit


@pytest.fixture
def visit(browser, served, request):
    """A fresh page. Afterwards: it was in touch with its own server only, and nothing went wrong."""
    options = getattr(request, "param", {})
    context = browser.new_context(**({"viewport": {"width": 1100, "height": 900}} | options))
    one = opened(context, served.url)
    yield one
    context.close()
    assert one.hosts <= {served.url.split("/")[2], ""}
    assert one.errors == []
