import pytest

from mretrieve.datasets.address import Address, is_address, parse_address
from mretrieve.datasets.catalogue import addresses
from mretrieve.errors import InputError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("miracl/sw/dev", Address("miracl", "sw", "dev")),
        ("miracl/sw/train", Address("miracl", "sw", "train")),
        ("miracl/sw", Address("miracl", "sw")),
        ("mrtydi/sw/test", Address("mrtydi", "sw", "test")),
        ("xquad/th", Address("xquad", "th")),
        ("xquad-r", Address("xquad-r")),
        ("xquad-r/test", Address("xquad-r", split="test")),
        ("beir:data/my set", Address("beir", place="data/my set")),
        ("hf:mteb/scifact", Address("hf", place="mteb/scifact")),
        ("hf:mteb/MIRACLRetrieval@9c09:sw", Address("hf", place="mteb/MIRACLRetrieval@9c09", config="sw")),
    ],
)
def test_addresses_are_read_and_written_back(text, address):
    assert parse_address(text) == address
    assert str(address) == text


def test_every_listed_address_is_read():
    assert [str(parse_address(text)) for text in addresses()] == addresses()


def test_languages_are_known_by_their_other_codes_too():
    assert parse_address("miracl/swa/dev") == Address("miracl", "sw", "dev")


def test_the_collection_of_an_address_has_no_split():
    assert parse_address("miracl/sw/dev").collection == "miracl/sw"


def test_a_whole_benchmark_is_meant_only_where_that_is_allowed():
    assert parse_address("miracl", whole=True) == Address("miracl")
    with pytest.raises(InputError, match="'miracl' needs a language, as in miracl/ar"):
        parse_address("miracl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("miralc/sw/dev", "no collection 'miralc/sw/dev'. Did you mean miracl/sw/dev"),
        ("nonsense", r"no collection 'nonsense'. An address is BENCHMARK/LANGUAGE\[/SPLIT\]"),
        ("miracl/sv", "MIRACL v1.0 has no language 'sv'.*Choose from: ar, bn, de,"),
        ("miracl/sw/tset", r"no split 'tset' here.*Choose from: dev, train"),
        ("miracl/yo/train", "no split 'train' here"),
        ("miracl/sw/dev/more", "no collection"),
        ("xquad-r/dev", "no split 'dev'"),
        ("beir:", "beir: needs a folder"),
        ("hf:scifact", "names no repository"),
        ("hf:../../etc", "names no repository"),
        ("", "no collection"),
    ],
)
def test_unknown_addresses_are_told_with_near_ones(text, message):
    with pytest.raises(InputError, match=message):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("miracl/sw", True),
        ("xquad-r", True),
        ("beir:x", True),
        ("hf:a/b", True),
        ("sample", False),
        ("./miracl", False),
    ],
)
def test_addresses_are_told_from_paths(text, expected):
    assert is_address(text) is expected
