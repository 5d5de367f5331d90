import pytest

from mretrieve.datasets.address import parse_address
from mretrieve.datasets.collection import at_address, open_collection, parts_of
from mretrieve.errors import InputError
from tests.official import of_sample, write_beir, write_miracl


@pytest.fixture
def beir(tmp_path):
    small = of_sample("en")
    folder = write_beir(tmp_path / "beir", small)
    write_beir(folder, small, split="dev")
    lines = (folder / "qrels" / "dev.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "qrels" / "dev.tsv").write_text("".join(lines[:3]), encoding="utf-8")
    return folder


def test_a_beir_folder_has_its_splits(beir):
    collection = open_collection(f"beir:{beir}")
    assert list(collection.qrels) == ["dev", "test"]
    assert collection.choose() == "test"
    assert len(collection.queries("dev")) == len(collection.judgements("dev")) == 2
    assert len(collection.queries()) == 40
    assert collection.passages is None and collection.lang == ""


def test_a_split_that_is_not_there_is_told(beir):
    with pytest.raises(InputError, match="has no split 'train' here: there are dev, test"):
        open_collection(f"beir:{beir}").queries("train")
    (beir / "qrels" / "test.tsv").rename(beir / "qrels" / "other.tsv")
    with pytest.raises(InputError, match=r"several splits \(dev, other\): name one by --split"):
        open_collection(f"beir:{beir}").judgements()


@pytest.mark.parametrize(
    ("gone", "message"), [("corpus.jsonl.gz", "is no BEIR folder"), ("qrels", "has no judgements")]
)
def test_what_a_folder_lacks_is_told(beir, gone, message):
    (beir / gone).rename(beir.parent / "gone")
    with pytest.raises(InputError, match=message):
        open_collection(f"beir:{beir}")


def test_a_root_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="There is no folder .*--root names one"):
        open_collection("miracl/sw", root=tmp_path / "none")


def test_only_splits_that_are_here_are_offered(tmp_path):
    root = write_miracl(tmp_path, of_sample("en"))
    assert list(open_collection("miracl/en", root=root).qrels) == ["dev"]
    with pytest.raises(InputError, match="lacks files of miracl/en.*en-train.tsv"):
        open_collection("miracl/en/train", root=root)


def test_in_the_cache_only_a_whole_corpus_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    write_miracl(tmp_path / "cache" / "datasets", of_sample("en"), shards=3)  # published are 66
    with pytest.raises(InputError, match=r"miracl/en is not on this machine.*docs-0\.jsonl\.gz to docs-65"):
        open_collection("miracl/en")
    write_miracl(tmp_path / "cache" / "datasets", of_sample("en"), shards=66)
    assert len(open_collection("miracl/en").corpus) == 66


@pytest.mark.parametrize(
    ("address", "n_parts"),
    [("miracl/sw", 5), ("miracl/sw/dev", 3), ("miracl/yo", 3), ("mrtydi/sw", 7), ("xquad-r", 11)],
)
def test_the_parts_of_a_collection(address, n_parts):
    assert len(parts_of(parse_address(address))) == n_parts


def test_addresses_are_opened_and_paths_are_not(beir, monkeypatch):
    assert at_address(f"beir:{beir}").place == beir
    assert at_address(beir) is None and at_address("sample") is None and at_address("no/such/path") is None
    (beir / "miracl").mkdir()
    monkeypatch.chdir(beir)
    assert at_address("miracl") is None  # a folder of that name goes first
