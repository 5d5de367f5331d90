import json
import os
import shutil

import numpy as np
import pytest

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index.live import write_deleted
from mretrieve.index.manifest import SegmentEntry, read_manifest
from mretrieve.index.open import open_index
from mretrieve.index.update import Parts, add_documents, delete_documents
from mretrieve.index.verify import verify_index
from mretrieve.types import Document


def count_lines(folder, lang):
    return len((folder / f"{lang}.jsonl").read_text("utf-8").splitlines())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, program):
    """An index that was never changed, and one of two segments with deleted documents."""
    folder = tmp_path_factory.mktemp("finished")
    program.small_build(folder / "plain", 12)
    program.small_build(folder / "changed", 12)
    parts = Parts(program.FakeEncoder(), program.make_lexical())
    add_documents(program.make_documents(5, 12), folder / "changed", source="s", parts=parts)
    delete_documents(["id-é-2", "id-é-13"], folder / "changed")
    return folder


@pytest.fixture(params=["plain", "changed"])
def path(request, tmp_path, finished):
    shutil.copytree(finished / request.param, tmp_path / "idx")
    return tmp_path / "idx"


@pytest.fixture
def changed(tmp_path, finished):
    shutil.copytree(finished / "changed", tmp_path / "idx")
    return tmp_path / "idx"


def test_a_whole_index_is_said_to_be_whole(finished):
    plain = verify_index(finished / "plain", count_lexical=count_lines)
    assert (plain.manifest.documents, plain.segments, plain.lexical) == (12, 1, True)
    changed = verify_index(finished / "changed", count_lexical=count_lines)
    assert (changed.manifest.documents, changed.segments, changed.lexical) == (15, 2, True)


def flip(file):
    """Change one bit in the first, the middle and the last byte in turn."""
    data = file.read_bytes()
    for place in {0, len(data) // 2, len(data) - 1}:
        yield data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def cut(file):
    data = file.read_bytes()
    yield from (data[: len(data) // 2], data[:-2], b"")


@pytest.mark.parametrize("damage", [flip, cut, None])
def test_damage_to_any_file_is_told_with_its_name(path, damage):
    names = [*open_index(path).manifest.files, "manifest.json"]
    assert len(names) > 5
    for name in names:
        whole = (path / name).read_bytes()
        for broken in damage(path / name) if damage else [None]:
            if broken is None:
                (path / name).unlink()
            else:
                (path / name).write_bytes(broken)
            with pytest.raises(InputError) as caught:
                verify_index(path, count_lexical=count_lines)
            assert str(path / name) in str(caught.value) or (name, broken) == ("manifest.json", None)
        (path / name).write_bytes(whole)
    verify_index(path, count_lexical=count_lines)


def test_any_bit_of_the_manifest_that_changes_its_meaning_is_told(path):
    whole = (path / "manifest.json").read_bytes()
    said = json.loads(whole)
    rng = np.random.default_rng(13)
    n_told = 0
    for place, bit in zip(rng.integers(len(whole), size=150), rng.integers(8, size=150), strict=True):
        broken = whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
        (path / "manifest.json").write_bytes(broken)
        try:
            verify_index(path, count_lexical=count_lines)
        except InputError:
            n_told += 1
        else:
            assert json.loads(broken) == said  # as with a space for a line's end
    assert n_told > 140


def hashes(path, *names):
    """Make the manifest agree with files that were changed, so that only the parts disagree."""
    from dataclasses import replace

    from mretrieve import files
    from mretrieve.index.manifest import FileEntry

    manifest = read_manifest(path)
    entries = dict(manifest.files)
    for name in names:
        entries[name] = FileEntry((path / name).stat().st_size, files.sha256_of(path / name))
    (path / "manifest.json").write_text(replace(manifest, files=entries).to_json(), "utf-8")


def test_another_number_of_vectors_is_told(changed, finished):
    shutil.copy(finished / "plain" / "dense.faiss", changed / "segments/000002/dense.faiss")
    hashes(changed, "segments/000002/dense.faiss")
    with pytest.raises(
        InputError, match=r"000002/dense\.faiss holds 12 vectors, but .*manifest\.json says 5"
    ):
        verify_index(changed, count_lexical=count_lines)


def test_another_number_of_words_documents_is_told(changed):
    file = "segments/000001/lexical/ar/ar.jsonl"
    with open(changed / file, "a") as lines:
        lines.write('"more"\n')
    hashes(changed, file)
    with pytest.raises(InputError, match=r"lexical/ar holds 4 documents, but .*manifest\.json says 3"):
        verify_index(changed, count_lexical=count_lines)


def test_other_deleted_documents_are_told_by_their_languages(changed):
    write_deleted(changed / "deleted.npy", np.array([0, 1], np.int64))
    hashes(changed, "deleted.npy")
    with pytest.raises(InputError, match=r"documents in en, but .*manifest\.json says"):
        verify_index(changed, count_lexical=count_lines)


def test_a_segment_too_many_is_told(changed):
    from dataclasses import replace

    manifest = read_manifest(changed)
    wrong = replace(manifest, segments={**manifest.segments, "000002": SegmentEntry(6)})
    (changed / "manifest.json").write_text(wrong.to_json(), "utf-8")
    with pytest.raises(InputError, match=r"000002/documents/documents\.arrow holds 5 documents"):
        verify_index(changed, count_lexical=count_lines)


def test_an_id_that_stands_twice_is_told(tmp_path, program):
    from mretrieve.index.build import build

    twice = [Document("a", "x", lang="en"), Document("b", "y", lang="en"), Document("a", "z", lang="en")]
    build(twice, tmp_path / "i", plan=program.make_plan(lexical=False), encode=program.FakeEncoder())
    with pytest.raises(InputError, match=r"holds the document 'a' 2 times \(1 such ids\)"):
        verify_index(tmp_path / "i")


def test_without_lucene_the_rest_is_looked_at(path):
    def count(folder, lang):
        raise MissingDependencyError

    assert verify_index(path, count_lexical=count).lexical is False
    name = next(name for name in read_manifest(path).files if name.endswith("ar.jsonl"))
    os.truncate(path / name, 3)
    with pytest.raises(InputError, match=r"ar\.jsonl has 3 bytes"):
        verify_index(path, count_lexical=count)
