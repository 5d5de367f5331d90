"""Token ids of OpenAI's clients back to text; the table is the real one, from a package that carries it."""

import gzip
from pathlib import Path

import pytest

from mretrieve.errors import InputError
from mretrieve.serve import tokens
from mretrieve.serve.errors import ApiError
from mretrieve.serve.tokens import CACHED_NAME, TokenTable

SENTENCES = [
    "Where does the river rise?",
    "ينبع النهر من الجبال العالية.",
    "แม่น้ำไหลลงมาจากภูเขาสูง",
    "नदी पहाड़ों से निकलती है। 🌊",
]


@pytest.fixture(scope="session")
def table_file():
    found = [path for path in tokens._places() if path.is_file() and path.suffix != ".gz"]
    if not found:
        pytest.skip("no package here carries cl100k_base")
    return found[0]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A machine without the table: no package, no cache, no network."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tokens, "_PACKAGES", (("no_such_package", "table"),))
    monkeypatch.setattr(tokens, "URL", (tmp_path / "away").as_uri())
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


def encoding(table_file, monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(table_file.parent))
    if table_file.name != CACHED_NAME:
        pytest.skip("tiktoken itself cannot read the table here")
    return tiktoken.get_encoding("cl100k_base")


def test_text_comes_back(table_file, monkeypatch):
    ids = [encoding(table_file, monkeypatch).encode(text) for text in SENTENCES]
    table = TokenTable(table_file)
    assert table.is_loaded
    assert table.decode(ids) == SENTENCES


def test_it_is_found_when_it_is_needed(table_file, monkeypatch):
    ids = encoding(table_file, monkeypatch).encode(SENTENCES[1])
    table = TokenTable()
    assert not table.is_loaded
    assert table.decode([ids, ids[:1]])[0] == SENTENCES[1]
    assert table.is_loaded


def test_half_a_character_does_no_harm(table_file):
    table = TokenTable(table_file)
    assert table.decode([[9468]])[0].strip("\ufffd") == ""  # the first half of an emoji
    assert table.decode([[100_257]]) == [""]  # the end of a text is no text


def test_an_id_that_is_none(table_file):
    with pytest.raises(ApiError, match="Text 1 has a token id that is not in cl100k_base") as caught:
        TokenTable(table_file).decode([[1], [100_277]])
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_without_a_table_the_error_says_what_to_do(alone):
    table = TokenTable()
    with pytest.raises(ApiError, match="check_embedding_ctx_length=False.*--token-table FILE") as caught:
        table.decode([[1, 2]])
    assert (caught.value.status, caught.value.code) == (400, "token_ids_not_supported")


def test_it_is_not_looked_for_at_each_request(alone, monkeypatch):
    looked = []
    monkeypatch.setattr(tokens, "_contents", lambda: looked.append(1) or iter(()))
    table = TokenTable()
    for _ in range(3):
        with pytest.raises(ApiError):
            table.decode([[1]])
    assert len(looked) == 1


def test_it_is_fetched_once(alone, table_file, monkeypatch):
    (alone / "away").write_bytes(table_file.read_bytes())
    assert TokenTable().decode([[15339, 1917]]) == ["hello world"]
    (alone / "away").unlink()
    assert TokenTable().decode([[15339, 1917]]) == ["hello world"]
    assert (alone / "cache" / "tokens" / CACHED_NAME).is_file()


def test_nothing_is_fetched_when_the_machine_is_offline(alone, table_file, monkeypatch):
    (alone / "away").write_bytes(table_file.read_bytes())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ApiError):
        TokenTable().decode([[1]])


def test_what_is_fetched_has_to_be_the_table(alone):
    (alone / "away").write_bytes(b"AAAA 0\n")
    with pytest.raises(ApiError):
        TokenTable().decode([[0]])
    assert not (alone / "cache" / "tokens").exists()


def test_tiktokens_own_cache_is_used(alone, table_file):
    (alone / "tiktoken").mkdir()
    (alone / "tiktoken" / CACHED_NAME).write_bytes(table_file.read_bytes())
    assert TokenTable().decode([[15339]]) == ["hello"]


def test_a_packed_table_is_read_a_damaged_one_passed_over(alone, table_file, monkeypatch):
    package = alone / "packed"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('not to be imported')")
    (package / "table.gz").write_bytes(gzip.compress(table_file.read_bytes()))
    (package / "cut.gz").write_bytes(gzip.compress(table_file.read_bytes())[:1000])
    monkeypatch.syspath_prepend(str(alone))
    monkeypatch.setattr(tokens, "_PACKAGES", (("packed", "cut.gz"), ("packed", "table.gz")))
    assert TokenTable().decode([[15339]]) == ["hello"]


def test_a_file_that_is_no_table(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        TokenTable(tmp_path / "none")
    (tmp_path / "other").write_bytes(b"AAAA 0\n")
    with pytest.raises(InputError, match="is not the table cl100k_base.tiktoken"):
        TokenTable(tmp_path / "other")


def test_the_names_are_those_of_tiktoken():
    source = pytest.importorskip("tiktoken_ext.openai_public")
    code = Path(source.__file__).read_text(encoding="utf-8")
    assert tokens.URL in code
    assert tokens.SHA256 in code
