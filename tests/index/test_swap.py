import os
import shutil

import pytest

from mretrieve.errors import InputError
from mretrieve.index import swap
from mretrieve.index.manifest import read_manifest
from mretrieve.index.open import verify
from mretrieve.index.plan import write_plan


@pytest.fixture(scope="module")
def indexes(tmp_path_factory, program):
    """Two finished indexes, of 10 and of 20 documents."""
    folder = tmp_path_factory.mktemp("finished")
    program.small_build(folder / "old", 10)
    program.small_build(folder / "new", 20)
    return folder


@pytest.fixture
def pair(tmp_path, indexes):
    """(new index as `idx.building`, place of the old one)."""
    shutil.copytree(indexes / "new", tmp_path / "idx.building")
    return tmp_path / "idx.building", tmp_path / "idx"


@pytest.fixture(params=["exchange", "two renames"])
def system(request, monkeypatch):
    """With and without Linux's rename flags."""
    if request.param == "two renames":
        monkeypatch.setattr(swap, "_renameat2", lambda *_: False)
    return request.param


def test_a_new_index_is_moved_into_a_free_place(pair, system):
    building, target = pair
    swap.place(building, target, overwrite=False)
    assert verify(target).documents == 20
    assert os.listdir(target.parent) == ["idx"]


def test_an_old_index_is_replaced_and_deleted(pair, indexes, system):
    building, target = pair
    shutil.copytree(indexes / "old", target)
    swap.place(building, target, overwrite=True)
    assert verify(target).documents == 20
    assert os.listdir(target.parent) == ["idx"]
    assert not (target / swap.DISCARDED).exists()


def test_the_exchange_is_one_act_of_the_system(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "of a").touch()
    if not swap._renameat2(tmp_path / "a", tmp_path / "b", swap._EXCHANGE):
        pytest.skip("this system or file system exchanges no names")
    assert os.listdir(tmp_path / "b") == ["of a"]
    with pytest.raises(FileExistsError):
        swap._renameat2(tmp_path / "a", tmp_path / "b", swap._NOREPLACE)


def test_an_existing_index_needs_overwrite(pair, indexes):
    building, target = pair
    shutil.copytree(indexes / "old", target)
    with pytest.raises(InputError, match="idx exists. Add --overwrite"):
        swap.place(building, target, overwrite=False)
    assert read_manifest(target).documents == 10


def make_empty_folder(target):
    target.mkdir()


def make_folder_with_files(target):
    target.mkdir()
    (target / "thesis.txt").write_text("three years")


def make_web_manifest(target):
    target.mkdir()
    (target / "manifest.json").write_text('{"name": "My site"}')


def make_damaged_manifest(target):
    target.mkdir()
    (target / "manifest.json").write_text('{"format": "mretrieve-index"')


def make_file(target):
    target.write_text("a file")


def make_broken_link(target):
    target.symlink_to("nowhere")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        make_empty_folder,
        make_folder_with_files,
        make_web_manifest,
        make_damaged_manifest,
        make_file,
        make_broken_link,
    ],
)
def test_what_is_no_index_is_never_touched(pair, make, overwrite):
    building, target = pair
    make(target)
    before = sorted(p.name for p in target.rglob("*")), os.lstat(target).st_ino
    with pytest.raises(InputError, match="idx exists and is not an index of mretrieve"):
        swap.place(building, target, overwrite=overwrite)
    assert (sorted(p.name for p in target.rglob("*")), os.lstat(target).st_ino) == before
    assert verify(building).documents == 20


def test_an_index_with_foreign_files_is_not_replaced(pair, indexes):
    building, target = pair
    shutil.copytree(indexes / "old", target)
    (target / "documents" / "my run.trec").write_text("q1 Q0 d1 1 1.0 x")
    with pytest.raises(InputError, match=r"idx holds documents/my run\.trec.*Move that file away"):
        swap.place(building, target, overwrite=True)
    assert (target / "documents" / "my run.trec").exists()


def test_an_index_of_a_newer_format_can_be_replaced(pair, indexes):
    building, target = pair
    shutil.copytree(indexes / "old", target)
    text = (target / "manifest.json").read_text().replace('"format_version": 3', '"format_version": 9')
    (target / "manifest.json").write_text(text)
    swap.place(building, target, overwrite=True)
    assert verify(target).documents == 20


@pytest.fixture
def replaced(pair, indexes):
    """An old index as it stands for a moment between two renames."""
    folder = pair[1].with_name("idx.replaced")
    shutil.copytree(indexes / "old", folder)
    (folder / swap.DISCARDED).touch()
    return folder


def test_recover_brings_back_an_index_that_was_moved_away(pair, replaced):
    _, target = pair
    assert swap.needs_recovery(target)
    assert swap.recover(target) is False
    assert verify(target).documents == 10
    assert not (target / swap.DISCARDED).exists()
    assert not swap.needs_recovery(target)
    assert not replaced.exists()


def test_recover_deletes_the_empty_folder_of_a_replaced_index(pair):
    building, target = pair
    building.rename(target)
    target.with_name("idx.replaced").mkdir()
    assert swap.recover(target) is True
    assert os.listdir(target.parent) == ["idx"]


def test_recover_deletes_an_exchanged_index(pair, indexes):
    """As after a kill right after the exchange: the old index has the name of the new one."""
    building, target = pair
    building.rename(target)
    shutil.copytree(indexes / "old", building)
    (building / swap.DISCARDED).touch()
    assert swap.recover(target) is True
    assert os.listdir(target.parent) == ["idx"]
    assert verify(target).documents == 20


def test_recover_deletes_the_old_index_when_the_new_one_is_in_place(pair, replaced):
    building, target = pair
    building.rename(target)
    assert not swap.needs_recovery(target)
    assert swap.recover(target) is True
    assert os.listdir(target.parent) == ["idx"]
    assert verify(target).documents == 20


@pytest.mark.parametrize("ours", [False, True])
def test_a_folder_that_only_has_the_name_is_left_alone(pair, indexes, system, ours):
    """Somebody may keep photos, or an index of their own, under the name that we use between renames."""
    building, target = pair
    kept = target.with_name("idx.replaced")
    if ours:
        shutil.copytree(indexes / "old", kept)
    else:
        kept.mkdir()
        (kept / "photo.jpg").touch()
    before = sorted(os.listdir(kept))
    assert not swap.needs_recovery(target)
    assert swap.recover(target) is False
    shutil.copytree(indexes / "old", target)
    assert swap.recover(target) is False
    with pytest.raises(InputError, match=r"idx\.replaced is in the way: move it away"):
        swap.place(building, target, overwrite=True)
    assert sorted(os.listdir(kept)) == before
    assert verify(target).documents == 10


def test_a_discarded_folder_is_known_until_it_is_gone(tmp_path, indexes, program, monkeypatch):
    folder = tmp_path / "x"
    shutil.copytree(indexes / "old", folder)
    write_plan(folder, program.make_plan())
    seen = []
    remove = swap.files.remove

    def watched(path):
        seen.append(swap.is_discarded(folder))
        remove(path)

    monkeypatch.setattr(swap.files, "remove", watched)
    swap.discard(folder)
    assert len(seen) == 6  # dense.faiss, documents, lexical, plan.json, manifest.json, discarded
    assert all(seen)
    assert not folder.exists()


def test_a_file_named_discarded_makes_no_folder_ours(tmp_path):
    (tmp_path / "discarded").touch()
    (tmp_path / "thesis.txt").touch()
    assert not swap.is_discarded(tmp_path)
