import pytest

from mretrieve.datasets.catalogue import Repository
from mretrieve.datasets.hub import RemoteFile, UnreachableError, endpoint, list_files
from mretrieve.errors import InputError
from tests.hub import LARGE, serving

REPOSITORY = Repository("owner/set", "abc")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for name, size in (("data/big.bin", LARGE), ("data/small.txt", 3), ("other.txt", 5)):
        file = tmp_path / "owner" / "set" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
    with serving(tmp_path) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url + "/")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield served


def test_files_are_listed_over_all_pages_with_size_and_checksum(hub):
    hub.page_size = 1
    found = {file.path: file for file in list_files(REPOSITORY)}
    assert list(found) == ["data/big.bin", "data/small.txt", "other.txt"]
    # `printf xxx | git hash-object --stdin`; `printf x%.0s {1..2000} | sha256sum`
    assert found["data/small.txt"].git_sha1 == "ac8522fb58c89951af0089cb090a56f9856c05b0"
    assert found["data/big.bin"].sha256 == "5c0e0ea421571c300b5df6aec0a118b5c3dc02e0683a546341d5efc689df2f58"
    assert (found["data/big.bin"].size, found["data/small.txt"].size) == (LARGE, 3)
    assert found["data/small.txt"].sha256 is None and found["data/big.bin"].git_sha1 is None


def test_a_folder_alone_is_listed(hub):
    assert [file.path for file in list_files(REPOSITORY, "data")] == ["data/big.bin", "data/small.txt"]


def test_addresses_follow_the_endpoint_and_the_revision(hub, monkeypatch):
    remote = RemoteFile(REPOSITORY, "a b/docs#0.jsonl.gz")
    assert endpoint() == hub.url
    assert remote.url == f"{hub.url}/datasets/owner/set/resolve/abc/a%20b/docs%230.jsonl.gz"
    monkeypatch.delenv("HF_ENDPOINT")
    assert remote.url.startswith("https://huggingface.co/datasets/owner/set/")
    github = RemoteFile(Repository.parse("github:owner/set@abc"), "x.json")
    assert github.url == "https://raw.githubusercontent.com/owner/set/abc/x.json"


def test_a_repository_that_is_not_there_is_named(hub):
    with pytest.raises(InputError, match=r"no data set owner/other at 'main'.*404"):
        list_files(Repository("owner/other", "main"))


def test_the_token_goes_to_the_hub_and_nowhere_else(hub, monkeypatch):
    from mretrieve.datasets.hub import open_url

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    open_url(RemoteFile(REPOSITORY, "other.txt").url).close()
    asked = hub.headers["/datasets/owner/set/resolve/abc/other.txt"]
    sent_on = hub.headers["/cdn/owner/set/other.txt"]
    assert asked["Authorization"] == "Bearer hf_secret"
    assert "Authorization" not in sent_on


def test_offline_nothing_is_asked(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnreachableError, match="HF_HUB_OFFLINE"):
        list_files(REPOSITORY)
    assert not hub.headers


def test_no_connection_is_one_sentence(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(UnreachableError, match=r"127.0.0.1:9 cannot be reached \(.*refused"):
        list_files(REPOSITORY)


def test_only_the_web_is_asked(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("x")
    monkeypatch.setenv("HF_ENDPOINT", f"file://{tmp_path}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(InputError, match="no address of the web"):
        list_files(REPOSITORY)
