import errno
import gzip
import os
from dataclasses import replace

import pytest

from mretrieve.datasets import download
from mretrieve.datasets.catalogue import Repository
from mretrieve.datasets.download import fetch
from mretrieve.datasets.hub import UnreachableError, list_files
from mretrieve.errors import InputError
from tests.hub import serving

CONTENT = os.urandom(300_000)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    folder = tmp_path / "hub" / "owner" / "set"
    folder.mkdir(parents=True)
    (folder / "docs-0.jsonl.gz").write_bytes(CONTENT)
    (folder / "topics.tsv").write_bytes(b"1\tWho?\n")
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.01)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving(tmp_path / "hub") as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.fixture
def remote(hub):
    return next(file for file in list_files(Repository("owner/set", "main")) if file.sha256)


def partial(target):
    return target.with_name(target.name + ".partial")


def test_a_file_comes_whole(hub, remote, tmp_path):
    seen = []
    target = fetch(remote, tmp_path / "cache" / "a" / "docs-0.jsonl.gz", on_bytes=seen.append)
    assert target.read_bytes() == CONTENT
    assert sum(seen) == len(CONTENT)
    assert [path.name for path in target.parent.iterdir()] == ["docs-0.jsonl.gz"]


def test_a_small_file_is_checked_by_gits_checksum(hub, tmp_path):
    small = next(file for file in list_files(Repository("owner/set", "main")) if not file.sha256)
    assert fetch(small, tmp_path / "topics.tsv").read_bytes() == b"1\tWho?\n"
    with pytest.raises(InputError, match="other bytes than the hub names"):
        fetch(replace(small, git_sha1="0" * 40), tmp_path / "again.tsv")


def test_a_cut_connection_is_taken_up_where_it_broke(hub, remote, tmp_path):
    hub.cut_after["docs-0.jsonl.gz"] = 100_000
    assert fetch(remote, tmp_path / "x").read_bytes() == CONTENT
    assert [wanted for _, wanted in hub.requests] == [None, "bytes=100000-"]


def test_a_killed_download_goes_on_in_the_next_process(hub, remote, tmp_path):
    partial(tmp_path / "x").write_bytes(CONTENT[:123_456])
    assert fetch(remote, tmp_path / "x").read_bytes() == CONTENT
    assert hub.requests == [("docs-0.jsonl.gz", "bytes=123456-")]


def test_a_whole_partial_file_needs_no_download(hub, remote, tmp_path):
    partial(tmp_path / "x").write_bytes(CONTENT)
    assert fetch(remote, tmp_path / "x").read_bytes() == CONTENT
    assert hub.requests == []


def test_a_host_without_ranges_sends_all_of_it(hub, remote, tmp_path):
    hub.ranges = False
    partial(tmp_path / "x").write_bytes(CONTENT[:1000])
    assert fetch(remote, tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("known", [True, False], ids=["size known", "size unknown"])
def test_a_partial_file_that_is_too_long_is_thrown_away(hub, remote, tmp_path, known):
    partial(tmp_path / "x").write_bytes(CONTENT + b"more")
    remote = remote if known else replace(remote, size=None)
    assert fetch(remote, tmp_path / "x").read_bytes() == CONTENT


def test_a_wrong_checksum_keeps_nothing(hub, remote, tmp_path):
    hub.spoilt.add("docs-0.jsonl.gz")
    with pytest.raises(InputError, match=r"other bytes than the hub names.*Nothing of it was kept"):
        fetch(remote, tmp_path / "cache" / "x")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wrong_beginning_is_found_and_thrown_away(hub, remote, tmp_path):
    partial(tmp_path / "cache" / "x").parent.mkdir()
    partial(tmp_path / "cache" / "x").write_bytes(b"\0" * 1000)
    with pytest.raises(InputError, match="Nothing of it was kept"):
        fetch(remote, tmp_path / "cache" / "x")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_is_here_is_not_asked_for(hub, remote, tmp_path):
    (tmp_path / "x").write_bytes(b"whole")
    assert fetch(remote, tmp_path / "x").read_bytes() == b"whole"
    assert hub.requests == []


def test_without_a_connection_what_has_come_is_kept(remote, tmp_path, monkeypatch):
    partial(tmp_path / "x").write_bytes(CONTENT[:1000])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"Run the same command again.*1,000 bytes"):
        fetch(remote, tmp_path / "x")
    assert partial(tmp_path / "x").stat().st_size == 1000


def test_a_file_that_is_gone_is_named(hub, remote, tmp_path):
    with pytest.raises(InputError, match=r"gone\.gz cannot be fetched: 404"):
        fetch(replace(remote, path="gone.gz"), tmp_path / "x")


def test_a_full_disk_is_told(hub, remote, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(InputError, match="No space left"):
        fetch(remote, tmp_path / "x")


def test_a_folder_that_may_not_be_written_is_told(hub, remote, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="Cannot write"):
        fetch(remote, tmp_path / "file" / "x")


def test_a_truncated_gz_names_its_file(tmp_path):
    from mretrieve.datasets.passages import read_passages

    lines = b'{"docid": "1", "title": "", "text": "moja"}\n' * 5000
    (tmp_path / "docs-3.jsonl.gz").write_bytes(gzip.compress(lines)[:-100])
    with pytest.raises(InputError, match=r"docs-3\.jsonl\.gz is cut off or damaged"):
        list(read_passages(tmp_path / "docs-3.jsonl.gz", "docs-3.jsonl.gz"))
