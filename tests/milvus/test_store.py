import pytest

from mretrieve.errors import InputError
from mretrieve.index.manifest import EncoderIdentity
from mretrieve.milvus.address import parse_milvus_address
from mretrieve.milvus.store import About, MilvusStore, key_of, search_parameters

ABOUT = About(EncoderIdentity("m", "f" * 64, 4), "client", "flat", "s", 0.9, 0.4)


def test_what_a_collection_says_of_itself_is_kept_in_the_file(tmp_path):
    address = parse_milvus_address(f"milvus:{tmp_path / 'a.db'}#one")
    with MilvusStore(address) as store:
        store.create(ABOUT)
    with MilvusStore(address) as store:
        assert store.about() == ABOUT
        store.load()
        assert store.count() == 0
        store.drop()
        assert not store.exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": "other"}', ABOUT.to_json()[:-20]])
def test_other_descriptions_are_refused(text):
    with pytest.raises(InputError, match="was not made by mretrieve"):
        About.parse(text, "milvus:x.db")


def test_a_newer_one_is_told_from_a_broken_one():
    with pytest.raises(InputError, match="newer mretrieve"):
        About.parse(ABOUT.to_json().replace('"format_version": 1', '"format_version": 2'), "x")


def test_no_server_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("mretrieve.milvus.store.TIMEOUT_SECONDS", 1.0)
    with pytest.raises(InputError, match=r"milvus://127\.0\.0\.1:9/x cannot be opened"):
        MilvusStore(parse_milvus_address("milvus://127.0.0.1:9/x"))
    with pytest.raises(InputError, match="There is no folder"):
        MilvusStore(parse_milvus_address(f"milvus:{tmp_path / 'none' / 'x.db'}"))


def test_keys_tell_ids_apart():
    assert len({key_of(one) for one in ("a", "b", "نهر", "")}) == 4
    assert len(key_of("a")) == 32


@pytest.mark.parametrize("kind", ["hnsw", "diskann", "gpu_cagra"])
def test_graphs_are_searched_deeper_than_what_is_asked(kind):
    assert all(value >= 2000 for value in search_parameters(kind, 1000).values())
