import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mretrieve.errors import InputError
from mretrieve.files import locked
from mretrieve.index import open as opening
from mretrieve.index import swap
from mretrieve.index.open import open_index, verify


@pytest.fixture(scope="module")
def finished(tmp_path_factory, program):
    folder = tmp_path_factory.mktemp("finished")
    program.small_build(folder / "idx", 30)
    program.small_build(folder / "other", 20)
    return folder


@pytest.fixture
def path(tmp_path, finished):
    """A copy of a finished index of 30 documents, to break."""
    shutil.copytree(finished / "idx", tmp_path / "idx")
    return tmp_path / "idx"


def test_parts_are_opened_when_first_used(path, program):
    opened = []

    def open_lexical(folder, lang):
        opened.append((folder, lang))
        return program.FakeSearcher(folder, lang)

    index = open_index(path, open_lexical=open_lexical)
    assert opened == []
    assert index.lexical_languages == ["ar", "en", "th", "und"]
    assert index.lexical("ar") is index.lexical("ar")
    assert opened == [(path / "lexical" / "ar", "ar")]
    assert index.dense is index.dense
    assert index.rows_of("ar").tolist() == [1, 5, 9, 13, 17, 21, 25, 29]
    with pytest.raises(KeyError):
        index.lexical("sw")


def test_opening_loads_neither_faiss_nor_pandas(path):
    code = (
        "import sys; from pathlib import Path; from mretrieve.index.open import open_index\n"
        "index = open_index(Path(sys.argv[1])); index.documents.get([1])\n"
        "heavy = {'faiss', 'pandas', 'pydantic', 'jnius', 'torch'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


@pytest.mark.parametrize(
    "name", ["dense.faiss", "documents/documents.arrow", "lexical/ar/ar.jsonl", "lexical/und/und.jsonl"]
)
def test_one_changed_byte_in_any_file_is_told(path, name):
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    for check in (open_index, verify):
        with pytest.raises(InputError, match=f"{name} is damaged: its SHA-256 .* Build the index again"):
            check(path)


def test_large_indexes_are_hashed_only_by_verify(path, monkeypatch):
    monkeypatch.setattr(opening, "HASHED_UP_TO", 100)
    data = bytearray((path / "lexical/ar/ar.jsonl").read_bytes())
    data[0] ^= 1
    (path / "lexical/ar/ar.jsonl").write_bytes(data)
    open_index(path)
    with pytest.raises(InputError, match=r"ar\.jsonl is damaged"):
        verify(path)


@pytest.mark.parametrize("name", ["dense.faiss", "documents/documents.arrow", "lexical/ar/ar.jsonl"])
def test_a_missing_and_a_cut_file_are_told(path, name):
    size = (path / name).stat().st_size
    os.truncate(path / name, size - 1)
    with pytest.raises(InputError, match=f"{name} has .* bytes instead of .* Build the index again"):
        open_index(path)
    (path / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing .* Build the index again"):
        open_index(path)


def test_a_newer_format_says_what_to_do(path):
    text = (path / "manifest.json").read_text().replace('"format_version": 3', '"format_version": 4')
    (path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="index format 4, newer than .*pip install -U mretrieve"):
        open_index(path)


def test_a_damaged_manifest_is_told(path):
    (path / "manifest.json").write_text('{"format": "mretr')
    with pytest.raises(InputError, match=r"manifest\.json is not JSON.*Build the index again"):
        open_index(path)


def test_a_wrong_number_of_documents_is_told(path, finished):
    text = (path / "manifest.json").read_text().replace('"documents": 30', '"documents": 31')
    (path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"documents\.arrow holds 30 documents, but manifest\.json says 31"):
        open_index(path)


def test_a_missing_index_suggests_near_names(path):
    shutil.copytree(path, path.with_name("miracl-sw"))
    path.with_name("miracl-xx").mkdir()
    with pytest.raises(InputError) as caught:
        open_index(path.with_name("mircal-sw"))
    message = str(caught.value)
    assert f"There is no index {path.with_name('mircal-sw')}." in message
    assert f"Did you mean {path.with_name('miracl-sw')}?" in message
    assert "mretrieve index SOURCE" in message


def test_a_missing_index_in_a_missing_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="There is no index .*nowhere/idx"):
        open_index(tmp_path / "nowhere" / "idx")


def test_a_folder_without_a_manifest_is_no_index(tmp_path):
    (tmp_path / "photos").mkdir()
    for check in (open_index, verify):
        with pytest.raises(InputError, match=r"photos is not an index: it has no manifest\.json"):
            check(tmp_path / "photos")


def test_a_file_is_no_index(tmp_path):
    (tmp_path / "corpus.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"corpus\.jsonl is not an index"):
        open_index(tmp_path / "corpus.jsonl")


def test_a_half_built_index_says_what_to_do(tmp_path, program):
    def stop(texts):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        program.small_build(tmp_path / "idx", encode=stop)
    again = "run the same `mretrieve index` again to finish it"
    with pytest.raises(InputError, match=rf"idx is half-built \(in .*idx\.building\): {again}"):
        open_index(tmp_path / "idx")
    with pytest.raises(InputError, match=rf"idx\.building is a half-built index: {again}"):
        open_index(tmp_path / "idx.building")


def test_a_file_of_somebody_else_named_plan_is_no_half_built_index(tmp_path):
    (tmp_path / "idx.building").mkdir()
    (tmp_path / "idx.building" / "plan.json").write_text("{}")
    with pytest.raises(InputError, match="There is no index"):
        open_index(tmp_path / "idx")


def test_parts_of_a_replaced_index_are_not_mixed(path, program):
    before, used = (open_index(path, open_lexical=program.FakeSearcher) for _ in range(2))
    assert used.dense.search(program.FakeEncoder()(["x"]), 30)[1].max() == 29
    used.lexical("ar")
    program.small_build(path, 12, overwrite=True)
    # What is open stays readable, since its pages are mapped; what is not open yet is gone.
    assert len(before.documents.get(range(30))) == 30
    assert used.dense.search(program.FakeEncoder()(["x"]), 30)[1].max() == 29
    used.lexical("ar")
    for use in (lambda: before.dense, lambda: before.lexical("ar"), lambda: used.lexical("en")):
        with pytest.raises(InputError, match="was replaced by another index while it was open"):
            use()
    assert open_index(path).dense.search(program.FakeEncoder()(["x"]), 30)[1].max() == 11


def test_an_index_between_two_renames_is_brought_back(path, monkeypatch):
    """As after a kill on a system that cannot exchange two names."""
    (path / swap.DISCARDED).touch()
    path.rename(path.with_name("idx.replaced"))
    assert open_index(path).manifest.documents == 30
    assert sorted(os.listdir(path.parent)) == ["idx"]


def test_an_index_between_two_renames_is_waited_for(path, finished):
    """Its builder is at work, and does the second rename in a moment."""
    (path / swap.DISCARDED).touch()
    path.rename(path.with_name("idx.replaced"))
    shutil.copytree(finished / "other", path.with_name("idx.building"))
    with locked(path):
        timer = threading.Timer(0.2, lambda: path.with_name("idx.building").rename(path))
        timer.start()
        assert open_index(path).manifest.documents == 20
        timer.join()
    assert not swap.needs_recovery(path)


@pytest.mark.slow
def test_readers_see_a_whole_index_while_it_is_replaced(path, program):
    """One thread replaces the index again and again; each opening gets one of the two, never a mixture."""
    counts, done = set(), threading.Event()

    def replace():
        for n in (12, 30) * 6:
            program.small_build(path, n, overwrite=True)
        done.set()

    thread = threading.Thread(target=replace)
    thread.start()
    while not done.is_set():
        index = open_index(path)
        assert len(index.documents) == index.manifest.documents
        assert len(index.documents.get([index.manifest.documents - 1])) == 1
        counts.add(index.manifest.documents)
    thread.join()
    assert counts == {12, 30}


def test_the_folder_can_be_given_in_any_form(path, monkeypatch):
    monkeypatch.chdir(path)
    assert open_index(Path(".")).manifest.documents == 30
    monkeypatch.chdir(path.parent)
    assert open_index(Path("idx")).manifest.documents == 30


def test_an_index_that_was_opened_whole_outlives_its_folder(path, program, tmp_path):
    closed = []

    class Searcher(program.FakeSearcher):
        def close(self):
            closed.append(self)

    index = open_index(path, open_lexical=Searcher)
    index.open_all()
    shutil.rmtree(path)
    assert len(index.dense) == 30
    assert index.documents.get([29])
    for lang in index.lexical_languages:
        assert len(index.lexical(lang).search("a", 1)[0]) == 1
        assert len(index.rows_of(lang))
    index.close()
    assert len(closed) == len(index.lexical_languages)


def test_opening_whole_what_was_replaced_is_told(path, program):
    index = open_index(path, open_lexical=program.FakeSearcher)
    (path / "manifest.json").write_bytes((path / "manifest.json").read_bytes() + b"\n")
    with pytest.raises(InputError, match="was replaced by another index"):
        index.open_all()
