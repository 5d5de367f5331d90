"""Builds as real processes, ended by signals: nothing is lost, nothing is encoded twice."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mretrieve.files import lock_file
from mretrieve.index.open import open_index, verify

HERE = Path(__file__).parent
N_DOCUMENTS, SHARD_SIZE = 160, 8
ARGUMENTS = ["--documents", str(N_DOCUMENTS), "--shard-size", str(SHARD_SIZE)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="needs the signals and forks of POSIX"),
]


def start(path, log, *more):
    """Start a build as a process; returns when it has imported what it needs."""
    command = [
        sys.executable,
        str(HERE / "build_program.py"),
        str(path),
        "--log",
        str(log),
        *ARGUMENTS,
        *more,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    return process


def lines(log):
    return log.read_text("utf-8").splitlines() if log.exists() else []


def end_and_resume(path, folder, number, rng, *more):
    """End builds by a signal at random moments until one comes to its end; the calls of each start."""
    calls = []
    while True:
        log = folder / f"{len(calls)}.log"
        # The first takes four seconds, so that it is ended also where this process has to wait for its turn.
        process = start(path, log, "--delay-seconds", "0.02" if calls else "0.2", *more)
        try:
            _, errors = process.communicate(timeout=rng.uniform(0.02, 0.25))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            _, errors = process.communicate()
        calls.append(lines(log))
        assert process.returncode in (0, -number), errors
        if path.exists():  # it came to its end, or was ended after its last act
            return calls


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
@pytest.mark.parametrize("seed", [1, 2])
def test_ended_at_random_moments_a_build_resumes(tmp_path, program, number, seed):
    (tmp_path / "logs").mkdir()
    (tmp_path / "made").mkdir()
    path = tmp_path / "made" / "idx"
    calls = end_and_resume(path, tmp_path / "logs", number, random.Random(seed))
    assert len(calls) > 1, "no build was ended: the test was too slow to see anything"
    for n, earlier in enumerate(calls):
        for later in calls[n + 1 :]:
            # Only the shard that was in flight may come again.
            assert {*earlier} & {*later} <= {*earlier[-1:]}
    assert len({first for one in calls for first in one}) == N_DOCUMENTS // SHARD_SIZE

    program.small_build(tmp_path / "whole", N_DOCUMENTS, shard_size=SHARD_SIZE)
    for name in verify(path).files:
        assert (path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {*os.listdir(path.parent)} <= {"idx", lock_file(path).name}


def test_an_old_index_is_whole_during_and_after_a_killed_overwrite(tmp_path, program):
    path, log = tmp_path / "idx", tmp_path / "log"
    program.small_build(path, 24)
    before = {name: (path / name).read_bytes() for name in verify(path).files}
    process = start(path, log, "--overwrite", "--delay-seconds", "0.05")
    deadline = time.monotonic() + 60
    while len(lines(log)) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        assert verify(path).documents == 24
    process.kill()
    process.communicate()
    assert {name: (path / name).read_bytes() for name in verify(path).files} == before
    assert len(open_index(path).documents) == 24

    done = lines(log)
    log.unlink()
    process = start(path, log, "--overwrite")
    assert process.wait() == 0
    process.communicate()
    assert {*done} & {*lines(log)} <= {*done[-1:]}
    assert verify(path).documents == N_DOCUMENTS
    assert sorted(os.listdir(tmp_path)) == ["idx", "log"]


def test_two_builds_at_once_do_not_meet(tmp_path):
    first = start(tmp_path / "idx", tmp_path / "log", "--delay-seconds", "0.1")
    deadline = time.monotonic() + 60
    while not lines(tmp_path / "log"):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.01)
    second = start(tmp_path / "idx", tmp_path / "log2")
    _, errors = second.communicate()
    assert second.returncode == 1
    assert "Another process is building" in errors
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    assert verify(tmp_path / "idx").documents == N_DOCUMENTS
    assert not (tmp_path / "log2").exists()


@pytest.mark.parametrize("system", ["exchange", "renames"])
@pytest.mark.parametrize("mode", ["new", "overwrite"])
def test_killed_before_any_change_of_the_file_system_a_build_resumes(tmp_path, system, mode):
    """`kill_program.py` kills one build before each mkdir, rename, unlink and fsync that a build does."""
    command = [sys.executable, str(HERE / "kill_program.py"), str(tmp_path), system, mode]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) > 50


def fault_program(folder, *arguments):
    """`fault_program.py`, which `make test-slow` runs on the large collection; its figures."""
    command = [sys.executable, str(HERE / "fault_program.py"), str(folder), *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.skipif(importlib.util.find_spec("jnius_config") is None, reason="needs Lucene")
def test_real_builds_killed_at_random_moments_are_as_one_that_was_not(tmp_path):
    arguments = ["--kills", 3, "--faiss", "IVF4,SQ8", "--dim", 64]
    figures = fault_program(tmp_path / "builds", *arguments)
    assert figures["different"] == []
    assert figures["kills"] == 3 and figures["ends"] >= 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status")
def test_memory_stays_below_one_and_a_half_times_the_vectors(tmp_path):
    """One shard more than a power of two of them, where an array that doubles would be twice its size.

    What learns from a sample takes a few times that, 65,536 vectors, which are all of so small a set: such an
    index is measured on the large one.
    """
    arguments = ["--only-build", "--documents", 33 * 1024, "--dim", 3072, "--faiss", "Flat"]
    figures = fault_program(tmp_path / "idx", *arguments)
    assert figures["vector_bytes"] == 33 * 1024 * 3072 * 4
    assert figures["rss_before"] < figures["vector_bytes"] / 3
    assert figures["rss_peak"] < 1.5 * figures["vector_bytes"]
