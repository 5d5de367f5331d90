import os
import subprocess
import sys
from pathlib import Path

import pytest

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.files import files_below
from mretrieve.index import swap, update
from mretrieve.index.open import open_index, verify
from mretrieve.index.update import Parts, add_documents, compact, delete_documents
from mretrieve.types import Document

HERE = Path(__file__).parent


@pytest.fixture
def parts(program):
    return Parts(program.FakeEncoder(), program.make_lexical())


@pytest.fixture
def path(tmp_path, program):
    program.small_build(tmp_path / "idx", 12)
    return tmp_path / "idx"


def add(path, program, parts, *, start=12, n=9, source="s"):
    return add_documents(program.make_documents(n, start), path, source=source, parts=parts)


@pytest.mark.slow
def test_any_order_of_changes_searches_and_kills_loses_and_invents_no_document(tmp_path):
    """`update_program.py` compares an index with a dictionary after each step, as often as is said here."""
    command = [sys.executable, str(HERE / "update_program.py"), str(tmp_path), "15", "10"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert int(finished.stdout) >= 15


def test_a_change_leaves_nothing_beside_the_index(path, program, parts):
    add(path, program, parts)
    delete_documents(["id-é-3"], path)
    for change in (lambda: None, lambda: compact(path, factory="Flat", parts=parts)):
        change()
        assert files_below(path) == sorted([*verify(path).files, "manifest.json"])
        assert os.listdir(path.parent) == ["idx"]


def test_unchanged_files_are_not_copied(path, program, parts):
    before = {name: (path / name).stat().st_ino for name in open_index(path).manifest.files}
    add(path, program, parts)
    delete_documents(["id-é-1"], path)
    for name, inode in before.items():
        assert (path / "segments" / "000001" / name).stat().st_ino == inode


def test_where_files_have_one_name_only_they_are_copied(path, program, parts, monkeypatch):
    def link(old, new):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", link)
    add(path, program, parts)
    assert verify(path).documents == 21
    assert compact(path, factory="Flat", parts=parts).documents == verify(path).documents == 21


def test_an_addition_that_was_stopped_goes_on_and_encodes_nothing_twice(path, program):
    encoder = program.FakeEncoder()
    calls = []

    def stop_at_second(texts):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(texts)
        return encoder(texts)

    lexical = program.make_lexical()
    documents = [*program.make_documents(1500, 12)]
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        add_documents(documents, path, source="s", parts=Parts(stop_at_second, lexical))
    assert (path / "manifest.json").read_bytes() == before
    add_documents(documents, path, source="s", parts=Parts(encoder, lexical))
    assert len(encoder.calls) == 2 and len({*encoder.calls}) == 2
    assert open_index(path).manifest.documents == 1512


def test_an_addition_that_was_stopped_is_dropped_when_the_index_has_changed(path, program, parts, caplog):
    def stop(texts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add(path, program, Parts(stop, parts.lexical))
    delete_documents(["id-é-0"], path)
    assert "deleted and started afresh" in caplog.text
    assert open_index(path).manifest.documents == 11
    assert os.listdir(path.parent) == ["idx"]


def test_two_changes_at_once_are_refused(path, program, parts):
    with files.locked(path), pytest.raises(InputError, match="Another process is building .*idx now"):
        delete_documents(["id-é-0"], path)
    assert open_index(path).manifest.documents == 12


def test_one_id_twice_is_refused(path, parts):
    twice = [Document("a", "x", lang="en"), Document("a", "y", lang="en")]
    with pytest.raises(InputError, match="'a' is to be added twice"):
        add_documents(twice, path, source="s", parts=parts)
    assert open_index(path).manifest.documents == 12


def test_foreign_files_in_the_folder_stop_a_change(path, program, parts):
    (path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt, which is no part of the index"):
        add(path, program, parts)
    assert not swap.building_folder(path).exists()


def test_parts_have_to_be_those_of_the_index(path, program, parts):
    with pytest.raises(ValueError, match="exactly when the index has such a part"):
        add(path, program, Parts(None, parts.lexical))


def test_compressed_vectors_are_encoded_again_by_compact(tmp_path, program, parts):
    program.small_build(tmp_path / "idx", 12, faiss="SQ8")
    add(tmp_path / "idx", program, parts)
    delete_documents(["id-é-0"], tmp_path / "idx")
    encoder = program.FakeEncoder()
    compact(tmp_path / "idx", factory="Flat", parts=Parts(encoder, parts.lexical))
    index = open_index(tmp_path / "idx")
    texts = [one.contents for one in index.documents.get(range(20))]
    assert encoder.calls == [texts[0]]  # the first segment's, in one call; the second's are kept whole
    scores, rows = index.dense.search(program.FakeEncoder()(texts), 1)
    assert rows[:, 0].tolist() == list(range(20))
    assert scores.min() == pytest.approx(1, abs=1e-6)


def test_a_compaction_that_was_stopped_goes_on(path, program, parts, monkeypatch):
    add(path, program, parts)
    real = update.write_compacted

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(update, "write_compacted", stop)
    with pytest.raises(KeyboardInterrupt):
        compact(path, factory="Flat", parts=parts)
    monkeypatch.setattr(update, "write_compacted", real)
    encoder = program.FakeEncoder()
    assert compact(path, factory="Flat", parts=Parts(encoder, parts.lexical)).documents == 21
    assert encoder.calls == []
    assert verify(path).segments == {}
