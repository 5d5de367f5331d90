"""Commands that train and prepare training data, on small data and a model of a few hundred weights."""

import json

import pytest
import yaml

from mretrieve.indexing import build_index
from tests.conftest import make_checkpoint, write_jsonl
from tests.mine.conftest import write_folder

WORDS = ["cats", "dogs", "fish", "a cat", "the dog", "cats and dogs", "the fish", "a dog and fish"]


@pytest.fixture
def collection(tmp_path):
    documents = [{"_id": f"d{i}", "text": f"{text} {i}", "lang": "en"} for i, text in enumerate(WORDS)]
    queries = [{"_id": f"q{i}", "text": text, "lang": "en"} for i, text in enumerate(WORDS)]
    return write_folder(
        tmp_path / "train" / "little", documents, queries, {f"q{i}": {f"d{i}": 1} for i in range(len(WORDS))}
    )


def test_a_recipe_runs_and_is_not_run_again(command, tmp_path):
    base = make_checkpoint(tmp_path / "base")
    stage = {"stage": "upcycle", "name": "base", "base": str(base), "experts": 4, "every": 1}
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump({"name": "tiny", "about": "x", "stages": [stage]}), encoding="utf-8")
    first = command("train", recipe, "--run", tmp_path / "run", "--device", "cpu")
    assert first.status == 0, first.stderr
    assert "upcycle" in first.stdout and "done" in first.stdout
    again = command("train", recipe, "--run", tmp_path / "run", "--json")
    assert [one["status"] for one in again.json["stages"]] == ["skipped"]


def test_a_recipe_with_a_wrong_key(command, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    stage = {"stage": "upcycle", "name": "base", "experst": 4}
    recipe.write_text(yaml.safe_dump({"name": "tiny", "about": "x", "stages": [stage]}), encoding="utf-8")
    done = command("train", recipe)
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert "experst" in done.stderr and "experts" in done.stderr


def test_mining_writes_triples_and_a_report(command, tmp_path, collection, model):
    build_index(collection, tmp_path / "index", model=str(model))
    output = tmp_path / "triples.jsonl"
    options = ["--index", tmp_path / "index", "--per-query", 2, "--max-ratio", 1.0, "--mode", "dense"]
    done = command("mine", collection, output, *options)
    assert done.status == 0, done.stderr
    triples = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert triples and all(1 <= len(triple["negatives"]) <= 2 for triple in triples)
    own = ["--model", model, *options[2:]]
    assert command("mine", collection, tmp_path / "own.jsonl", *own).status == 0
    assert (tmp_path / "own.jsonl.index" / "manifest.json").is_file()
    assert (tmp_path / "own.jsonl").read_text("utf-8") == output.read_text("utf-8")
    refused = command("mine", collection, tmp_path / "more.jsonl", *options, "--split", "dev")
    assert refused.status == 2


def test_translation_by_a_parallel_file(command, tmp_path):
    rows = [{"eng": "A cat sat.", "deu": "Eine Katze saß."}]
    parallel = write_jsonl(tmp_path / "parallel.jsonl", rows)
    source = write_jsonl(tmp_path / "docs.jsonl", [{"_id": "d1", "text": "A cat sat.", "lang": "en"}])
    output = tmp_path / "out.jsonl"
    done = command("translate", source, output, "--to", "de", "--engine", f"parallel:{parallel}")
    assert done.status == 0, done.stderr
    record = json.loads(output.read_text(encoding="utf-8").splitlines()[0])
    assert (record["_id"], record["text"], record["lang"]) == ("d1@de", "Eine Katze saß.", "de")
    unknown = command("translate", source, tmp_path / "more.jsonl", "--to", "de", "--engine", "babelfish")
    assert unknown.status == 2 and "There is no translator 'babelfish'" in unknown.stderr
