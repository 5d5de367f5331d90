import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mretrieve.cache import cache_folder, make_once
from mretrieve.errors import InputError


def test_places_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MRETRIEVE_CACHE", "~/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MRETRIEVE_CACHE")
    assert cache_folder() == Path("/xdg/mretrieve")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / ".cache" / "mretrieve"


def test_a_user_without_a_home(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MRETRIEVE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(InputError, match="no home folder: set MRETRIEVE_CACHE"):
        cache_folder()


def write_hello(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "hello").write_text("hello")


def test_a_folder_is_made_once(tmp_path):
    folder = tmp_path / "a" / "b"
    assert make_once(folder, write_hello) == folder
    assert (folder / "sub" / "hello").read_text() == "hello"
    assert make_once(folder, lambda _: pytest.fail("it is there already")) == folder
    assert [entry.name for entry in folder.parent.iterdir()] == ["b"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_nothing_is_left_of_a_failure(tmp_path):
    def fail(folder):
        write_hello(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_once(tmp_path / "b", fail)
    assert list(tmp_path.iterdir()) == []


def test_several_threads_make_one_folder(tmp_path):
    barrier = threading.Barrier(4)
    found = []

    def fill(folder):
        barrier.wait(timeout=30)  # all are under way before the first has finished
        (folder / "file").write_text(str(threading.get_ident()))

    def work():
        found.append((make_once(tmp_path / "b", fill) / "file").read_text())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]


@pytest.mark.skipif(os.name == "nt", reason="needs kill -9")
def test_a_killed_process_leaves_no_half_folder(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from mretrieve.cache import make_once\n"
        "def fill(folder):\n (folder / 'half').touch(); os.kill(os.getpid(), 9)\n"
        f"make_once(Path({str(tmp_path)!r}) / 'b', fill)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    [leftover] = tmp_path.iterdir()
    assert leftover.name.startswith(".b-")

    make_once(tmp_path / "b", write_hello)
    assert leftover.exists(), "its maker may still be at work"
    os.utime(leftover, (time.time() - 100_000,) * 2)
    (tmp_path / ".bc-other").mkdir()
    os.utime(tmp_path / ".bc-other", (0, 0))
    (tmp_path / "b").rename(tmp_path / "old")
    make_once(tmp_path / "b", write_hello)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".bc-other", "b", "old"]


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"The cache .*/file cannot be written \(.*\): set MRETRIEVE_CACHE"):
        make_once(tmp_path / "file" / "b", write_hello)


def test_a_full_disk_and_other_errors(tmp_path):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    def other(folder):
        raise FileNotFoundError(errno.ENOENT, "No such file", "source")

    with pytest.raises(InputError, match=r"\(No space left on device\): set MRETRIEVE_CACHE"):
        make_once(tmp_path / "b", full)
    with pytest.raises(FileNotFoundError):
        make_once(tmp_path / "b", other)
    assert list(tmp_path.iterdir()) == []
