"""Kill a build before each of its changes of the file system in turn; resume it; check what is there.

Run as `kill_program.py FOLDER exchange|renames new|overwrite`. Each build is a process of its own (a
fork), ended by SIGKILL, so that nothing of ours can clean up after it.
"""

import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import build_program
import faiss
import pyarrow.ipc

from mretrieve import files
from mretrieve.index import swap
from mretrieve.index.open import open_index, verify

OLD, NEW = 10, 20  # documents; shards of 8


def kill_before(nth):
    """Patch everything that changes the file system to kill this process at the nth change."""
    n_changes = 0

    def patched(change):
        def count_and_change(*args, **kwargs):
            nonlocal n_changes
            if n_changes == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            n_changes += 1
            return change(*args, **kwargs)

        return count_and_change

    for name in ("mkdir", "rename", "replace", "link", "unlink", "remove", "rmdir", "fsync"):
        setattr(os, name, patched(getattr(os, name)))
    swap._renameat2 = patched(swap._renameat2)


def in_fork(act):
    """Run in a process of its own; true when it was killed, false when it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        sys.exit("a build or check failed")
    return False


def check_after_kill(target, overwrite):
    """Whatever was going on: a reader finds a whole index, the old or the new, or is told to go on."""
    if overwrite:
        assert open_index(target).manifest.documents in (OLD, NEW)
        verify(target)
    elif target.exists():
        assert verify(target).documents == NEW


def check_end(target, reference, calls):
    manifest = verify(target)
    assert manifest.documents == NEW
    assert files.files_below(target) == sorted([*manifest.files, "manifest.json"])
    assert os.listdir(target.parent) == [target.name], os.listdir(target.parent)
    for name in manifest.files:
        assert (target / name).read_bytes() == (reference / name).read_bytes(), name
    first, second = calls
    # The shard in flight when the kill came is the only one that is encoded again.
    assert {*first} & {*second} <= {*first[-1:]}, calls
    assert len({*first, *second}) == 3


def calls_of(log):
    return log.read_text("utf-8").splitlines() if log.exists() else []


def main():
    folder, system, mode = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    overwrite = mode == "overwrite"
    assert faiss and pyarrow.ipc  # imported once here, not in each fork
    if system == "renames":
        swap._renameat2 = lambda *_: False
    in_fork(lambda: build_program.small_build(folder / "reference", NEW))
    in_fork(lambda: build_program.small_build(folder / "old", OLD))
    nth, killed = 0, True
    while killed:
        place = folder / f"{nth}"
        target, logs = place / "idx", [folder / f"{nth}.log", folder / f"{nth}.again.log"]
        place.mkdir()
        if overwrite:
            shutil.copytree(folder / "old", target)

        def start(log, target=target):
            encode = build_program.FakeEncoder(log=log)
            build_program.small_build(target, NEW, encode=encode, overwrite=overwrite)

        def start_and_die(nth=nth, log=logs[0]):
            kill_before(nth)
            start(log)

        def resume(target=target, logs=logs):
            check_after_kill(target, overwrite)
            if set(os.listdir(target.parent)) == {target.name, files.lock_file(target).name} and (
                verify(target).documents == NEW
            ):
                files.lock_file(target).unlink()  # killed before the very last change: nothing is to do
            else:
                start(logs[1])
            check_end(target, folder / "reference", [calls_of(log) for log in logs])

        killed = in_fork(start_and_die)
        in_fork(resume if killed else lambda target=target: verify(target))
        shutil.rmtree(place)
        nth += 1
    sys.stdout.write(f"{nth - 1}\n")


if __name__ == "__main__":
    main()
