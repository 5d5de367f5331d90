import json

import pytest

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.errors import InputError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No hub can be reached here; fail at once instead of trying."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_the_embedded_model_has_its_prompts(e5_folder):
    found = find_checkpoint("e5-small")
    assert found.folder == e5_folder
    assert (found.query_prefix, found.document_prefix) == ("query: ", "passage: ")
    assert (found.pooling, found.max_length) == ("mean", 512)


@pytest.mark.parametrize("new_keys", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_old_and_new_pooling_keys(checkpoint, pooling, new_keys):
    assert find_checkpoint(str(checkpoint(pooling=pooling, new_keys=new_keys))).pooling == pooling


def test_what_is_not_a_plain_model_goes_to_sentence_transformers(checkpoint):
    folder = checkpoint()
    assert find_checkpoint(str(checkpoint(pooling="max", new_keys=True))).pooling == "custom"
    settings = json.loads((folder / "1_Pooling/config.json").read_text()) | {"include_prompt": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(settings))
    assert find_checkpoint(str(folder)).pooling == "custom"


def test_prompts_of_other_names(checkpoint):
    prompts = {"passage": "search_document: ", "query": "search_query: "}
    found = find_checkpoint(str(checkpoint(prompts=prompts)))
    assert (found.query_prefix, found.document_prefix) == ("search_query: ", "search_document: ")
    found = find_checkpoint(str(checkpoint()))
    assert (found.query_prefix, found.document_prefix) == ("", "")


def test_the_length_is_that_of_the_settings_and_of_the_positions(checkpoint):
    folder = checkpoint(kind="xlm-roberta")
    assert find_checkpoint(str(folder)).max_length == 30
    (folder / "sentence_bert_config.json").unlink()
    assert find_checkpoint(str(folder)).max_length == 38  # 40 positions, of which two are never used


def test_the_fingerprint_follows_the_contents(checkpoint):
    one, same, other = (find_checkpoint(str(checkpoint(seed=seed))) for seed in (1, 1, 2))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert len(one.fingerprint()) == 16
    file = same.folder / "config.json"
    file.write_text(file.read_text() + "\n")
    assert same.fingerprint() != one.fingerprint()


def test_unknown_models(tmp_path):
    with pytest.raises(InputError, match=r"Unknown model 'e5-smal'. Did you mean e5-small\?"):
        find_checkpoint("e5-smal")
    with pytest.raises(InputError, match="neither a folder nor in the cache, and the hub cannot be reached"):
        find_checkpoint("nobody/nothing")
    with pytest.raises(InputError, match="is no model: it has no config.json"):
        find_checkpoint(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is not valid JSON"):
        find_checkpoint(str(tmp_path))
    with pytest.raises(InputError, match="is a file. A model is a folder"):
        find_checkpoint(str(tmp_path / "config.json"))


def test_a_hub_id_is_read_from_the_hub_cache(checkpoint, tmp_path, monkeypatch):
    """The layout that huggingface_hub keeps; e5 models get the prompts that their card asks for."""
    from huggingface_hub import constants

    revision = "0" * 40
    repo = tmp_path / "hub" / "models--intfloat--multilingual-e5-base"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(revision)
    (repo / "snapshots").mkdir()
    checkpoint().rename(repo / "snapshots" / revision)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    found = find_checkpoint("intfloat/multilingual-e5-base")
    assert found.folder == repo / "snapshots" / revision
    assert (found.query_prefix, found.document_prefix) == ("query: ", "passage: ")
    assert find_checkpoint(f"intfloat/multilingual-e5-base@{revision}").folder == found.folder
