"""Download by address from a hub on this machine, in the layouts of the public one."""

import pytest

from mretrieve.datasets import download as downloading
from mretrieve.datasets import hub as hubs
from mretrieve.datasets.hub import UnreachableError
from mretrieve.datasets.layout import downloads
from mretrieve.datasets.obtain import download, obtain
from mretrieve.errors import InputError
from tests.hub import serving
from tests.official import of_sample, write_archive, write_beir, write_miracl, write_mrtydi


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(downloading, "WAIT_SECONDS", 0.01)
    root = tmp_path / "hub"
    small = of_sample("th")
    for split in ("dev", "train"):
        write_miracl(root, small, split=split, shards=2)
    for split in ("test", "dev", "train"):
        write_mrtydi(root, small, split=split)
    write_beir(root / "owner" / "scifact", small)
    with serving(root) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


def fetched(hub):
    return [name for name, _ in hub.requests]


def test_a_collection_comes_with_all_its_splits(hub):
    told = []
    files = download("miracl/th", on_progress=lambda *news: told.append(news))
    assert [file.name for file in files] == [
        "docs-0.jsonl.gz",
        "docs-1.jsonl.gz",
        *(f"{kind}.miracl-v1.0-th-{split}.tsv" for split in ("dev", "train") for kind in ("topics", "qrels")),
    ]
    n_bytes = sum(file.stat().st_size for file in files)
    assert told[-1] == ("download", n_bytes, n_bytes)
    collection = obtain("miracl/th/dev")
    assert len(list(collection.source().documents())) == 25
    assert collection.judgements() == of_sample("th").qrels


@pytest.fixture
def archive(hub, monkeypatch):
    """The archive of Thai on the makers' server."""
    from mretrieve.datasets.catalogue import benchmarks

    repository = benchmarks()["mrtydi"].repositories["archive"]
    monkeypatch.setattr(hubs, "WATERLOO", f"{hub.url}/cdn")
    folder = hub.root / repository.name / "-" / "raw" / repository.revision / "data"
    return write_archive(folder, of_sample("th"))


def test_the_makers_archive_serves_as_the_hub_s_files_do(hub, archive):
    hub.cut_after[archive.name] = 1000
    [file] = download("mrtydi/th", archive=True)
    assert [name for name, _ in hub.requests] == [archive.name] * 2
    assert hub.requests[1][1] == "bytes=1000-"
    assert file == downloads() / "jimmylin" / "mr.tydi" / "data" / archive.name
    hub.requests.clear()
    collection = obtain("mrtydi/th/test")
    assert not hub.requests
    assert len(list(collection.source().documents())) == 25
    assert collection.judgements() == of_sample("th").qrels


def test_an_archive_whose_checksum_is_wrong_is_not_kept(hub, archive):
    hub.spoilt.add(archive.name)
    with pytest.raises(InputError, match=r"mrtydi-v1\.1-thai\.tar\.gz is cut off or damaged"):
        download("mrtydi/th", archive=True)
    assert not [path for path in downloads().rglob("*") if path.is_file()]


def test_only_mr_tydi_comes_as_archives(hub):
    with pytest.raises(InputError, match="fetch miracl/th without --archive"):
        download("miracl/th", archive=True)


def test_a_split_comes_alone(hub):
    download("mrtydi/th/test")
    assert fetched(hub) == ["corpus.jsonl.gz", "topics.test.txt", "qrels.test.txt"]


def test_what_is_here_is_not_fetched_again(hub):
    download("mrtydi/th/test")
    hub.requests.clear()
    hub.headers.clear()
    download("mrtydi/th/test")
    obtain("mrtydi/th/test")
    assert not hub.requests and not hub.headers


def test_opening_fetches_what_is_missing(hub):
    collection = obtain("mrtydi/th/test")
    assert collection.corpus[0].is_relative_to(downloads())
    assert len(list(collection.source().documents())) == 25


def test_a_stopped_download_goes_on(hub, monkeypatch):
    hub.cut_after["docs-1.jsonl.gz"] = 1000
    monkeypatch.setattr(downloading, "TRIES", 1)
    with pytest.raises(InputError, match="Run the same command again: it goes on after the 1,000 bytes"):
        download("miracl/th/dev")
    hub.requests.clear()
    download("miracl/th/dev")
    assert hub.requests[0] == ("docs-1.jsonl.gz", "bytes=1000-")
    assert len(list(obtain("miracl/th/dev").source().documents())) == 25


def test_a_wrong_checksum_keeps_nothing(hub):
    hub.spoilt.add("docs-1.jsonl.gz")
    with pytest.raises(InputError, match=r"docs-1\.jsonl\.gz came with other bytes"):
        download("miracl/th/dev")
    left = [path.name for path in downloads().rglob("*") if path.is_file()]
    assert left == ["docs-0.jsonl.gz"]


def test_offline_it_is_told_what_to_put_where(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError) as error:
        obtain("miracl/th/dev")
    message = str(error.value)
    assert message.startswith("miracl/th is not on this machine (HF_HUB_OFFLINE is set, so nothing is fetch")
    assert f"put these files into {downloads()}" in message
    assert "miracl/miracl-corpus/miracl-corpus-v1.0-th/docs-0.jsonl.gz to docs-1.jsonl.gz" in message
    assert "topics.miracl-v1.0-th-dev.tsv" in message


def test_offline_a_download_tells_it_too(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for archive, name in ((False, "mrtydi-v1.1-thai/corpus.jsonl.gz, "), (True, "mrtydi-v1.1-thai.tar.gz.")):
        with pytest.raises(UnreachableError) as error:
            download("mrtydi/th/test", archive=archive)
        assert str(error.value).startswith("HF_HUB_OFFLINE is set, so nothing is fetched. Or put these files")
        assert f"into {downloads()}, or into a folder of yours that you name by --root: " in str(error.value)
        assert name in str(error.value)


def test_a_set_of_the_hub_is_fetched_by_its_repository(hub):
    collection = obtain("hf:owner/scifact")
    assert len(list(collection.source().documents())) == 25
    assert collection.choose() == "test"
    assert collection.corpus[0] == downloads() / "owner" / "scifact" / "corpus.jsonl.gz"


def test_a_repository_of_another_kind_is_told(hub):
    with pytest.raises(InputError, match="has no corpus in a form that needs no script"):
        download("hf:miracl/miracl")
    with pytest.raises(InputError, match="no data set owner/none"):
        obtain("hf:owner/none")


def test_files_that_the_hub_lacks_are_named(hub):
    (hub.root / "miracl" / "miracl-corpus" / "miracl-corpus-v1.0-th" / "docs-1.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"miracl/miracl-corpus has no file .*docs-1\.jsonl\.gz at d921ec7e"):
        download("miracl/th")


def test_a_folder_of_the_user_is_nothing_to_download(hub, tmp_path):
    with pytest.raises(InputError, match="nothing to download"):
        download(f"beir:{tmp_path}")


def test_files_of_github_come_by_their_commit(hub, monkeypatch, tmp_path):
    """Lists and checksums are not to be had there; the commit in the address stands for the bytes."""
    from mretrieve.datasets.catalogue import benchmarks

    repository = benchmarks()["xquad-r"].repositories["corpus"]
    monkeypatch.setattr(hubs, "GITHUB", f"{hub.url}/cdn")
    for lang in benchmarks()["xquad-r"].languages:
        file = hub.root / repository.name / repository.revision / "xquad-r" / f"{lang}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"data": []}')
    assert len(download("xquad-r")) == 11
