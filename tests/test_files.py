import errno
import os
import subprocess
import sys

import pytest

from mretrieve import files
from mretrieve.errors import InputError


def test_an_atomic_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.bin"
    with files.atomic_file(path) as file:
        file.write(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"

    with pytest.raises(RuntimeError), files.atomic_file(path) as file:
        file.write(b"second, broken off")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a.bin"]
    assert path.read_bytes() == b"first"


def test_sha256_is_the_published_digest_of_abc(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files.sha256_of(tmp_path / "abc") == expected


def test_files_below_are_sorted_names_with_slashes(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/2", "b/1", "z"):
        (tmp_path / name).touch()
    assert files.files_below(tmp_path) == ["b/1", "b/c/2", "z"]


def test_remove_takes_files_and_folders_but_only_the_link_to_a_folder(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("link", "folder", "file", "never-there"):
        files.remove(tmp_path / name)
    assert os.listdir(tmp_path) == ["kept"]


def test_a_second_process_does_not_get_the_lock(tmp_path):
    code = (
        "import sys; from pathlib import Path; from mretrieve.files import locked\n"
        "with locked(Path(sys.argv[1])): print('got it')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "idx")]
    with files.locked(tmp_path / "idx"):
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        with pytest.raises(InputError, match="Another process is building .*idx"):
            files.locked(tmp_path / "idx").__enter__()
    assert "Another process is building" in refused.stderr
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "got it\n"
    assert os.listdir(tmp_path) == []


def test_a_lock_file_left_by_a_killed_process_is_no_lock(tmp_path):
    files.lock_file(tmp_path / "idx").touch()
    with files.locked(tmp_path / "idx"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_what_to_do(tmp_path, code):
    with pytest.raises(InputError, match="No space left for .*idx.*Free some space and run"):
        with files.storage_errors(tmp_path / "idx"):
            raise OSError(code, os.strerror(code))


def test_a_full_disk_is_recognised_in_the_text_of_other_errors(tmp_path):
    with pytest.raises(InputError, match="No space left for"):
        with files.storage_errors(tmp_path / "idx"):
            raise RuntimeError("JVM exception occurred: No space left on device java.io.IOException")
    with pytest.raises(RuntimeError, match="something else"), files.storage_errors(tmp_path / "idx"):
        raise RuntimeError("something else")


def test_only_errors_about_the_index_become_cannot_write(tmp_path):
    target = tmp_path / "idx"
    for name in (target, tmp_path / "idx.building" / "plan.json.partial", tmp_path, files.lock_file(target)):
        with pytest.raises(InputError, match="Cannot write .*Permission denied"):
            with files.storage_errors(target):
                raise PermissionError(errno.EACCES, "Permission denied", str(name))
    with pytest.raises(PermissionError), files.storage_errors(target):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "corpus.jsonl"))


def test_make_folder_and_syncs_accept_what_is_there_already(tmp_path):
    folder = tmp_path / "a"
    files.make_folder(folder)
    (folder / "kept").write_text("x")
    files.make_folder(folder)
    files.sync_tree(tmp_path)
    assert (folder / "kept").read_text() == "x"


def test_a_new_folder_may_take_the_place_of_an_empty_one(tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    with files.new_folder(out) as building:
        (building / "weights").write_text("whole", encoding="utf-8")
        assert list(out.iterdir()) == []
    assert (out / "weights").read_text(encoding="utf-8") == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_fills_up_meanwhile_is_kept(tmp_path):
    out = tmp_path / "model"
    with pytest.raises(InputError, match="exists already"), files.new_folder(out):
        out.mkdir()
        (out / "other").touch()
    assert [path.name for path in out.iterdir()] == ["other"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
