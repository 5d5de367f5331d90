import io
import sys

import pytest

from mretrieve import progress as module
from mretrieve.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with progress() as on_progress:
        on_progress("documents", 5, None)
        on_progress("documents", 10, 10)
        on_progress("vectors", 4, 10)
    shown = sys.stderr.getvalue()
    assert "documents" in shown and "10/10" in shown
    assert "vectors" in shown and "4/10" in shown


def test_lines_elsewhere_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress() as on_progress:
        for second in range(0, 100, 5):
            now[0] = float(second)
            on_progress("vectors", second * 1000, 99_000)
    on_progress("documents", 7, None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "vectors: 30,000 of 99,000",
        "vectors: 60,000 of 99,000",
        "vectors: 90,000 of 99,000",
    ]
    now[0] = 120.0
    on_progress("documents", 7, None)
    assert capsys.readouterr().err == "documents: 7\n"


@pytest.mark.parametrize(
    ("resumable", "said"), [(True, "Stopped. The same command goes on from here.\n"), (False, "Stopped.\n")]
)
def test_ctrl_c_is_told_and_passed_on(capsys, resumable, said):
    with pytest.raises(KeyboardInterrupt):
        with progress(resumable=resumable):
            raise KeyboardInterrupt
    assert capsys.readouterr().err == said
