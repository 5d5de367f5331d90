"""Names of models, and the prompts that they choose."""

import pytest

from mretrieve.errors import InputError
from mretrieve.serve.errors import ApiError
from mretrieve.serve.models import ModelRegistry, public_name, split_spec


@pytest.fixture
def registry(model):
    return ModelRegistry([f"tiny={model}", f"other/one={model}"])


def refused(registry, *arguments):
    with pytest.raises(ApiError) as caught:
        registry.find(*arguments)
    return caught.value


def test_the_name_chooses_model_and_prompt(registry):
    assert registry.default.name == "tiny"
    assert registry.names[:4] == ["tiny", "tiny:query", "tiny:document", "other/one"]
    for name in registry.names:
        served, kind = registry.find(name)
        assert name.startswith(served.name)
        assert kind == ("query" if name.endswith(":query") else "document")


@pytest.mark.parametrize("word", ["query", "search_query"])
def test_input_type_chooses_too(registry, word):
    assert registry.find("tiny", word)[1] == "query"
    assert registry.find("tiny:query", word)[1] == "query"
    assert refused(registry, "tiny:document", word).param == "input_type"


@pytest.mark.parametrize("word", ["document", "search_document", "passage"])
def test_input_types_of_documents(registry, word):
    assert registry.find("tiny", word)[1] == "document"
    assert registry.find("tiny:document", word)[1] == "document"
    assert refused(registry, "tiny:query", word).status == 400


@pytest.mark.parametrize("name", ["", "tin", "tiny:", "tiny:image", ":query", "other", "x" * 1000])
def test_a_name_that_nobody_has(registry, name):
    error = refused(registry, name)
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert "Choose from: tiny, other/one" in error.message
    assert len(error.message) < 300


def test_a_server_without_models():
    with pytest.raises(ApiError, match="has no embedding model"):
        ModelRegistry().default  # noqa: B018


def test_the_same_name_twice(model):
    with pytest.raises(InputError, match="Two models are called 'a': give one of them another name"):
        ModelRegistry([f"a={model}", f"a={model}"])


@pytest.mark.parametrize("spec", ["=e5-small", "a b=e5-small", "a:query=e5-small", "name="])
def test_names_that_cannot_be_given(spec):
    with pytest.raises(InputError, match="is no NAME=MODEL"):
        split_spec(spec)


def test_a_model_that_does_not_exist():
    with pytest.raises(InputError, match="Unknown model 'e5-smal'. Did you mean e5-small"):
        ModelRegistry(["e5-smal"])


def test_a_folder_is_known_by_its_last_name(model, tmp_path):
    assert public_name("e5-small") == "e5-small"
    assert public_name("org/name") == "org/name"
    folder = tmp_path / "my model (2)"
    folder.symlink_to(model)
    assert "/" not in public_name(str(folder))
    (tmp_path / "my: model").mkdir()
    assert public_name(str(tmp_path / "my: model")) == "my--model"


def test_an_index_brings_its_model_once(model, checkpoint):
    registry = ModelRegistry([str(model)])
    assert registry.add(str(model)) is registry.default
    other = registry.add(str(model), query_prefix="q: ")
    assert other is not registry.default
    assert other.name == f"{registry.default.name}-2"
    assert registry.add(str(model), query_prefix="q: ") is other
    assert len(registry.all) == 2


def test_all_are_loaded(registry):
    assert not registry.is_ready
    registry.load()
    assert registry.is_ready
