"""The command that shows the search page."""

import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from mretrieve import arguments as take
from mretrieve import report
from mretrieve.errors import InputError, MissingDependencyError

app = typer.Typer()

Indexes = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[INDEX]...",
        help="Folders written by `mretrieve index`, or addresses of Milvus; all in indexes/built by default.",
        show_default=False,
    ),
]
Host = Annotated[
    str | None,
    take.option(
        metavar="ADDRESS", help="Where to listen; $GRADIO_SERVER_NAME, or this machine only, by default."
    ),
]
Port = Annotated[
    int | None,
    take.option(
        metavar="N",
        min=1,
        max=65535,
        help="$GRADIO_SERVER_PORT, or the first free one from 7860, by default.",
    ),
]
Browser = Annotated[bool, typer.Option("--browser", help="Open the page in this machine's browser.")]


@app.command(epilog="Example: mretrieve ui indexes/built/demo")
def ui(
    indexes: Indexes = None,
    host: Host = None,
    port: Port = None,
    device: take.Device = "auto",
    dtype: take.Dtype = "auto",
    browser: Browser = False,
) -> None:
    """Show a search page in the browser.

    Everything comes from this machine: the page loads nothing from another host and sends nothing there.
    """
    named = os.environ.get("GRADIO_SERVER_PORT", "")
    if named and not named.isdecimal():
        raise InputError(f"GRADIO_SERVER_PORT is {named!r}, but it should be a port's number, such as 7860.")
    launch, find_indexes = _page()
    page, url = launch(
        indexes or find_indexes(), host=host, port=port, device=device, dtype=dtype, in_browser=browser
    )
    report.tell(f"{url}  (Ctrl-C stops it)")
    try:
        while page.is_running:
            time.sleep(0.2)
    except KeyboardInterrupt:
        report.tell("Stopped.")
    finally:
        page.close(verbose=False)


def _page() -> tuple[Callable[..., Any], Callable[..., list[Path]]]:
    """Import the page, whatever state Gradio is in.

    Raises:
        MissingDependencyError: Gradio is not installed, or does not load.
    """
    try:
        launch = import_module("mretrieve.ui.app").launch
        return launch, import_module("mretrieve.ui.library").find_indexes
    except (InputError, MissingDependencyError):
        raise
    except ModuleNotFoundError as error:
        missing = (error.name or "gradio").partition(".")[0]
        raise MissingDependencyError(
            f"The page needs {missing}, which is not installed. Run `pip install 'mretrieve[ui]'`."
        ) from error
    except Exception as error:  # what a broken or an old Gradio raises cannot be known
        raise MissingDependencyError(
            f"The page cannot be loaded ({type(error).__name__}: {error}). "
            "Run `pip install --upgrade 'mretrieve[ui]'`."
        ) from error
