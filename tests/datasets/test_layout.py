import pytest

from mretrieve.datasets.catalogue import Repository
from mretrieve.datasets.layout import Part, downloads, find, missing
from mretrieve.errors import InputError

PART = Part(Repository("owner/set", "main"), ("docs-0.gz", "docs-1.gz"), ("loose.gz",))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))


def put(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.mark.parametrize("base", ["owner/set", "set", "."])
def test_files_are_found_in_clones_and_folders(tmp_path, base):
    put(tmp_path / base / "docs-0.gz", tmp_path / base / "docs-1.gz")
    assert find(tmp_path, PART, whole=True) == (tmp_path / base / "docs-0.gz", tmp_path / base / "docs-1.gz")


def test_a_part_of_the_files_is_enough_only_where_that_is_allowed(tmp_path):
    put(tmp_path / "docs-0.gz")
    assert find(tmp_path, PART, whole=True) == ()
    assert find(tmp_path, PART, whole=False) == (tmp_path / "docs-0.gz",)


def test_a_gap_is_told(tmp_path):
    put(tmp_path / "docs-1.gz")
    with pytest.raises(InputError, match=r"no file .*docs-0\.gz, but docs-1\.gz after it"):
        find(tmp_path, PART, whole=False)


def test_other_forms_come_last(tmp_path):
    put(tmp_path / "loose.gz")
    assert find(tmp_path, PART, whole=True) == (tmp_path / "loose.gz",)
    put(*PART.places(tmp_path))
    assert find(tmp_path, PART, whole=True) == tuple(PART.places(tmp_path))


def test_what_is_missing_is_told_with_its_place(tmp_path):
    other = Part(Repository("owner/topics", "main"), ("topics.tsv",))
    put(*other.places(downloads()))
    message = str(missing("miracl/sw", [PART, other], None, "The hub cannot be reached."))
    assert message.startswith("miracl/sw is not on this machine (The hub cannot be reached). Fetch it with")
    assert f"put these files into {tmp_path / 'cache' / 'datasets'}," in message
    assert message.endswith("--root: owner/set/docs-0.gz to docs-1.gz.")  # the topics are there
    assert str(missing("miracl/sw", [PART], tmp_path)) == (
        f"{tmp_path} lacks files of miracl/sw, which are published as owner/set/docs-0.gz to docs-1.gz."
    )
