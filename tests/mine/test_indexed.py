import pytest

from mretrieve.errors import InputError
from mretrieve.index.manifest import MANIFEST
from mretrieve.mine.indexed import build_pool
from tests.mine.conftest import write_folder


def test_the_index_is_built_once(tmp_path, data, model):
    pool = build_pool([data.folder], tmp_path / "deep" / "index", model=str(model))
    assert pool.rows([data.documents[9]["_id"]]).tolist() == [9]
    before = (tmp_path / "deep" / "index" / MANIFEST).read_bytes()
    assert build_pool([data.folder], tmp_path / "deep" / "index", model=str(model)).path == pool.path
    assert (tmp_path / "deep" / "index" / MANIFEST).read_bytes() == before


def test_documents_of_several_sets(tmp_path, model):
    one, two = (
        write_folder(
            tmp_path / name, [{"_id": name, "text": f"text of {name}", "lang": "en"}], [], {"q": {name: 1}}
        )
        for name in ("b", "a")
    )
    pool = build_pool([one, two], tmp_path / "index", model=str(model))
    assert [one.doc_id for one in pool.documents([0, 1])] == ["b", "a"]


def test_sets_that_cannot_be_used(tmp_path, data, model):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no corpus.jsonl"):
        build_pool([data.folder, tmp_path / "empty"], tmp_path / "index", model=str(model))
    with pytest.raises(InputError, match="is for evaluation"):
        build_pool([data.folder, "sample"], tmp_path / "index", model=str(model))
    with pytest.raises(InputError, match="stands at"):
        build_pool([data.folder, data.folder], tmp_path / "index", model=str(model))
