"""`mretrieve ui`; the page itself is tested in tests/ui."""

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mretrieve import cli_ui
from mretrieve.errors import InputError, MissingDependencyError


def run(*arguments):
    """`mretrieve ui ARGUMENTS...` in a process of its own, since Gradio leaves its event loops open."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is not installed")
    command = [sys.executable, "-m", "mretrieve.cli", "ui", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def failing_import(error):
    def fail(name):
        raise error

    return fail


def test_without_gradio_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(
        cli_ui, "import_module", failing_import(ModuleNotFoundError("x", name="gradio.blocks"))
    )
    with pytest.raises(MissingDependencyError, match=r"needs gradio.*pip install 'mretrieve\[ui\]'"):
        cli_ui.ui()


@pytest.mark.parametrize(
    "error", [AttributeError("x"), ValueError("y"), ImportError("cannot import name"), SyntaxError("z")]
)
def test_a_broken_gradio_is_one_sentence(monkeypatch, error):
    monkeypatch.setattr(cli_ui, "import_module", failing_import(error))
    with pytest.raises(MissingDependencyError, match=rf"{type(error).__name__}.*--upgrade 'mretrieve\[ui\]'"):
        cli_ui.ui()


def test_importing_the_command_imports_no_page():
    code = "import sys, mretrieve.cli_ui\nassert not {'gradio', 'mretrieve.ui'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_folder_that_is_no_index(tmp_path):
    done = run(tmp_path / "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: There is no index") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_port_that_is_taken(small_index):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = run(small_index, "--port", port)
    assert done.returncode == 2
    assert f"Error: Port {port} cannot be used" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_ends_it(monkeypatch, capsys):
    closed = []

    class Page:
        is_running = True

        def close(self, verbose):
            closed.append(verbose)

    def launch(paths, **options):
        assert paths == [Path("indexes/built/x")] and options["host"] is None
        return Page(), "http://127.0.0.1:7860/"

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_ui, "_page", lambda: (launch, lambda: [Path("indexes/built/x")]))
    monkeypatch.setattr(cli_ui.time, "sleep", interrupt)
    cli_ui.ui()
    assert closed == [False]
    assert capsys.readouterr().err == "http://127.0.0.1:7860/  (Ctrl-C stops it)\nStopped.\n"


def test_a_port_of_the_environment_that_is_no_number(monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_PORT", "http")
    with pytest.raises(InputError, match="GRADIO_SERVER_PORT is 'http'"):
        cli_ui.ui()


def test_the_page_is_where_it_is_looked_for():
    assert importlib.util.find_spec("mretrieve.ui.app") is not None
