import shutil

import pytest
from mretrieve.ui.library import Library, find_indexes

from mretrieve import InputError
from mretrieve.indexing import build_index


def test_indexes_by_name(small_index, words_index):
    library = Library([small_index, words_index])
    assert library.names == ["small", "words"]
    assert library["words"].search("cat", top_k=1)[0].lang == "en"


def test_equal_names_are_told_apart(small_index, tmp_path):
    shutil.copytree(small_index, tmp_path / "small")
    assert Library([small_index, tmp_path / "small"]).names == [str(small_index), str(tmp_path / "small")]


def test_no_such_index(small_index, tmp_path):
    with pytest.raises(InputError, match="no index 'other'. Choose from: small"):
        Library([small_index])["other"]
    with pytest.raises(InputError, match="No index is open"):
        Library([])["other"]
    with pytest.raises(InputError, match="There is no index"):
        Library([tmp_path / "nothing"])


def test_an_index_that_was_replaced_is_opened_anew(small_index, collection, tmp_path):
    path = tmp_path / "one"
    shutil.copytree(small_index, path)
    library = Library([path])
    before = library["one"]
    assert library["one"] is before
    build_index(collection, path, dense=False, overwrite=True)
    after = library["one"]
    assert after is not before and after.index.manifest.encoder is None
    assert after.search("cat", top_k=1)


def test_warming_up(small_index, tmp_path, caplog):
    path = tmp_path / "one"
    shutil.copytree(small_index, path)
    library = Library([path])
    library.warm_up().join(60)
    assert not caplog.records
    shutil.rmtree(path)
    library.warm_up().join(60)  # told in the log, and again to who asks
    assert "There is no index" in caplog.text


def test_finding_indexes(small_index, tmp_path):
    assert find_indexes(tmp_path / "nothing") == []
    (tmp_path / "no-index").mkdir()
    shutil.copytree(small_index, tmp_path / "b")
    shutil.copytree(small_index, tmp_path / "a")
    assert find_indexes(tmp_path) == [tmp_path / "a", tmp_path / "b"]
