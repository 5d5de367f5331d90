"""Against a hub on this machine, by the calls that huggingface_hub makes.

Of its two ways to send large files the one through Git LFS is used: that of Xet needs a server of its own.
"""

import json
import shutil

import pytest

from mretrieve.errors import InputError
from mretrieve.files import files_below
from mretrieve.index.open import verify
from mretrieve.rank.retriever import Retriever
from mretrieve.sharing import parse_hub_address, pull_index, push_index
from tests.hub import serving

ADDRESS = "hf:me/small"

# huggingface_hub gives its HTTP library a file under a keyword that this calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    (tmp_path / "hub").mkdir()
    monkeypatch.setattr("tests.hub.LARGE", 500)  # so that several files of a small index are large
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("mretrieve.datasets.download.WAIT_SECONDS", 0.0)
    with serving(tmp_path / "hub") as served:
        served.page_size = 100
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield served


@pytest.fixture
def published(hub, small_index):
    push_index(small_index, ADDRESS)
    return hub.root / "me" / "small"


def same_files(first, second):
    assert files_below(first) == files_below(second)
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in files_below(first))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_index_comes_back_as_it_was(hub, small_index, tmp_path):
    told = []
    pushed = push_index(small_index, ADDRESS, on_progress=lambda *what: told.append(what))
    assert len(hub.commits) == 1
    assert set(hub.commits[0]) == set(files_below(small_index))
    assert set(hub.commits[0].values()) == {"file", "lfsFile"}
    assert told[-1] == ("push", pushed.n_bytes, pushed.n_bytes)
    assert pushed.commit == hub.sha() and pushed.n_files == len(files_below(small_index))

    told.clear()
    manifest = pull_index(ADDRESS, tmp_path / "copy", on_progress=lambda *what: told.append(what))
    assert same_files(tmp_path / "copy", small_index)
    assert told[-1] == ("pull", manifest.n_bytes, manifest.n_bytes)
    assert verify(tmp_path / "copy") == manifest
    assert Retriever(tmp_path / "copy").search("cat in the garden", mode="bm25")[0].doc_id == "dog"
    assert names(tmp_path) == ["copy", "hub"]


def test_a_second_push_sends_nothing_anew(hub, published, small_index):
    sent = len(hub.sent)
    push_index(small_index, ADDRESS)
    assert len(hub.sent) == sent


def test_files_of_the_old_index_that_the_new_one_lacks_go(hub, published, small_index):
    (published / "lexical").joinpath("xx").mkdir()
    (published / "lexical" / "xx" / "old").write_bytes(b"old")
    (published / "README.md").write_text("About this index.", encoding="utf-8")
    push_index(small_index, ADDRESS)
    assert hub.commits[-1]["lexical/xx/old"] == "deletedFile"
    assert (published / "README.md").is_file()


def test_a_push_that_was_cut_off_goes_on(hub, small_index, tmp_path):
    hub.cut_uploads = {2}
    with pytest.raises(InputError, match="refuses"):
        push_index(small_index, ADDRESS)
    assert not hub.commits and len(hub.stored) == 1
    push_index(small_index, ADDRESS)
    assert len(hub.sent) == len(hub.stored) + 1  # the one that was refused came twice
    pull_index(ADDRESS, tmp_path / "copy")
    assert same_files(tmp_path / "copy", small_index)


def test_a_damaged_index_is_not_published(hub, small_index, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(small_index, broken)
    with (broken / "dense.faiss").open("r+b") as file:
        file.seek(50)
        file.write(b"\xff")
    with pytest.raises(InputError, match=r"dense\.faiss is damaged"):
        push_index(broken, ADDRESS)
    assert names(hub.root) == []


def test_a_repository_with_something_else_is_left_alone(hub, small_index):
    (hub.root / "me" / "small").mkdir(parents=True)
    (hub.root / "me" / "small" / "train.csv").write_text("a,b", encoding="utf-8")
    with pytest.raises(InputError, match=r"me/small holds train\.csv, but no index"):
        push_index(small_index, ADDRESS)
    assert not hub.commits


def test_who_may_not_write_is_told_so(hub, small_index):
    hub.read_only = True
    with pytest.raises(InputError, match=r"\(403\).*hf auth login"):
        push_index(small_index, ADDRESS)


def test_a_pull_that_was_cut_off_goes_on(hub, published, small_index, tmp_path, monkeypatch):
    monkeypatch.setattr("mretrieve.datasets.download.TRIES", 1)
    hub.cut_after["dense.faiss"] = 100
    with pytest.raises(InputError, match="goes on after the 100 bytes"):
        pull_index(ADDRESS, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    hub.requests.clear()
    pull_index(ADDRESS, tmp_path / "copy")
    assert ("dense.faiss", "bytes=100-") in hub.requests
    assert "manifest.json" not in [name for name, _ in hub.requests]
    assert same_files(tmp_path / "copy", small_index) and names(tmp_path) == ["copy", "hub"]


def test_what_a_cut_pull_left_of_another_commit_is_not_used(hub, published, tmp_path, monkeypatch):
    monkeypatch.setattr("mretrieve.datasets.download.TRIES", 1)
    hub.cut_after["dense.faiss"] = 100
    with pytest.raises(InputError):
        pull_index(ADDRESS, tmp_path / "copy")
    hub.commits.append({})
    hub.requests.clear()
    pull_index(ADDRESS, tmp_path / "copy")
    assert ("dense.faiss", None) in hub.requests and names(tmp_path) == ["copy", "hub"]


def test_bytes_that_are_not_the_hubs_are_refused(hub, published, tmp_path):
    hub.spoilt.add("dense.faiss")
    with pytest.raises(InputError, match="came with other bytes than the hub names"):
        pull_index(ADDRESS, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_an_index_that_is_wrong_on_the_hub_is_refused(hub, published, tmp_path, damage):
    file = published / "dense.faiss"
    data = file.read_bytes()
    file.unlink()
    if damage == "changed":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match=r"dense\.faiss"):
        pull_index(ADDRESS, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_another_index_is_replaced_only_on_demand(hub, published, small_index, tmp_path):
    pull_index(ADDRESS, tmp_path / "copy")
    with pytest.raises(InputError, match="Add --overwrite"):
        pull_index(ADDRESS, tmp_path / "copy")
    pull_index(ADDRESS, tmp_path / "copy", overwrite=True)
    assert same_files(tmp_path / "copy", small_index)
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="not an index of mretrieve"):
        pull_index(ADDRESS, tmp_path / "mine", overwrite=True)


def test_what_is_not_there_is_named(hub, tmp_path):
    with pytest.raises(InputError, match=r"no data set me/nothing.*\(404\)"):
        pull_index("hf:me/nothing", tmp_path / "copy")
    (hub.root / "me" / "small").mkdir(parents=True)
    with pytest.raises(InputError, match=r"hf:me/small is no index: it has no manifest\.json"):
        pull_index(ADDRESS, tmp_path / "copy")


def test_names_outside_the_folder_are_refused(hub, published, tmp_path):
    manifest = json.loads((published / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["../evil"] = {"n_bytes": 1, "sha256": "0"}
    (published / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(InputError, match="is not a name inside the index folder"):
        pull_index(ADDRESS, tmp_path / "copy")
    assert names(tmp_path.parent).count("evil") == 0


def test_no_hub(monkeypatch, small_index, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        pull_index(ADDRESS, tmp_path / "copy")


@pytest.mark.parametrize("address", ["me/small", "hf:small", "hf:a/b/c", "hf:", "hf:../x@"])
def test_other_addresses_are_refused(address):
    with pytest.raises(InputError, match="names no repository"):
        parse_hub_address(address)


def test_addresses():
    assert parse_hub_address("hf:me/x.y@v1").revision == "v1"
    assert parse_hub_address("hf:me/x").revision == "main"
