from pathlib import Path

import pytest

from mretrieve.errors import InputError
from mretrieve.milvus.address import is_milvus_address, parse_milvus_address


@pytest.mark.parametrize(
    ("text", "uri", "collection"),
    [
        ("milvus://db.example.org:19530/wiki", "http://db.example.org:19530", "wiki"),
        ("milvus:./wiki.db", "./wiki.db", "mretrieve"),
        ("milvus:/data/wiki.db#sw", "/data/wiki.db", "sw"),
        ("milvus:my wiki.db", "my wiki.db", "mretrieve"),
    ],
)
def test_addresses_survive_a_path_and_are_written_as_they_were(text, uri, collection):
    for given in (text, Path(text)):
        found = parse_milvus_address(given)
        assert (found.uri, found.collection, found.is_lite) == (uri, collection, uri.endswith(".db"))
        assert is_milvus_address(given)
    assert str(found) == text


@pytest.mark.parametrize("text", ["milvus:", "milvus://host/wiki", "milvus:file", "wiki.db", "milvus://h:1/"])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match=r"Write milvus://HOST:PORT/COLLECTION, or milvus:\./file\.db"):
        parse_milvus_address(text)


def test_names_that_milvus_refuses():
    with pytest.raises(InputError, match="letters, digits and underscores"):
        parse_milvus_address("milvus://host:1/my-wiki")
    assert not is_milvus_address("my-index")
