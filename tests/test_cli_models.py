"""Commands that make models and look into them, on a model of a few hundred weights."""

import json

import numpy as np
import pytest

from mretrieve import Encoder
from tests.conftest import make_checkpoint
from tests.models.nomic import official_folder

TEXTS = ["the cats and dogs", "a fish", "cats"]


@pytest.fixture
def official(tmp_path):
    return official_folder(tmp_path / "official")


@pytest.fixture
def parallel(tmp_path):
    rows = [
        {"id": "1", "eng": "the cats and dogs", "deu": "the dogs", "fra": "a cat"},
        {"id": "2", "eng": "a fish", "deu": "fish", "fra": "fish and dogs"},
        {"id": "3", "eng": "dogs", "deu": "a dog and cats", "fra": "cats"},
    ]
    path = tmp_path / "parallel.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_upcycling_keeps_the_embeddings(command, tmp_path):
    base, moe = make_checkpoint(tmp_path / "base"), tmp_path / "moe"
    done = command("upcycle", base, moe, "--experts", 4, "--every", 1, "--router", "xmoe")
    assert (done.status, done.stdout) == (0, "")
    assert done.stderr.startswith(f"{moe}: ") and "4 experts in each of the layers 0, 1" in done.stderr
    old, new = (Encoder(str(folder), dtype="fp32").encode_documents(TEXTS) for folder in (base, moe))
    np.testing.assert_allclose(new, old, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--experts", 1], "moe_top_k must be between 1 and num_experts (1), got 2."),
        (["--every", 0], "Experts every 0 layers is not possible: give 1 (all), 2, or more."),
        (["--router", "softmaxx"], "Unknown router 'softmaxx'. Known, nearest first: softmax"),
        (["--router", "language"], "needs the field languages"),
    ],
)
def test_upcycling_refuses_what_does_not_fit(command, tmp_path, options, said):
    base = make_checkpoint(tmp_path / "base")
    done = command("upcycle", base, tmp_path / "moe", *options)
    assert done.status == 2
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_upcycling_into_a_folder_in_use(command, tmp_path, official):
    done = command("upcycle", official, official)
    assert done.status == 2
    assert "exists already: give a new folder" in done.stderr


def test_export_writes_a_graph_that_agrees(command, tmp_path, official):
    import onnxruntime

    path = tmp_path / "model.onnx"
    done = command("export", official, path)
    assert done.status == 0, done.stderr
    assert (
        done.stdout.startswith(f"{path}: ") and "opset 23, cosine to the model at least 1.0000" in done.stdout
    )
    assert onnxruntime.InferenceSession(path).get_inputs()[0].name == "input_ids"
    again = command("export", official, path, "--json")
    assert again.status == 2 and "--overwrite" in again.stderr
    said = json.loads(command("export", official, path, "--overwrite", "--int8", "--json").stdout)
    assert said["path"] == str(path) and said["int8"] is True and said["cosine"] > 0.9


def test_routing_writes_a_report(command, tmp_path, official, parallel):
    done = command("routing", official, "--data", parallel, "--out", tmp_path / "report", "--langs", "de,fr")
    assert (done.status, done.stdout) == (0, ""), done.stderr
    assert "report: 3 languages, 3 rows" in done.stderr
    content = json.loads((tmp_path / "report" / "routing.json").read_text(encoding="utf-8"))
    assert len(content["languages"]) == 3
    assert content["layers"] == [1, 3]


def test_extract_makes_a_smaller_model_that_works(command, tmp_path, official, parallel):
    small = tmp_path / "small"
    options = ["--langs", "de,fr", "--experts", 2, "--trim-vocab", "--data", parallel, "--test", parallel]
    done = command("extract", official, small, *options)
    assert done.status == 0, done.stderr
    assert "before" in done.stdout and "kept" in done.stdout
    report = json.loads((small / "extract.json").read_text(encoding="utf-8"))
    assert report["after"]["parameters"] < report["before"]["parameters"]
    assert report["after"]["experts"] == 2
    assert Encoder(str(small)).encode_documents(["the dogs"]).shape == (1, 32)


def test_extract_needs_to_know_what_to_drop_and_text(command, tmp_path, official, parallel):
    done = command("extract", official, tmp_path / "small", "--langs", "de", "--data", parallel)
    assert done.status == 2 and "Say what to drop" in done.stderr
    done = command("extract", official, tmp_path / "small", "--langs", "de", "--trim-vocab")
    assert done.status == 2 and "--data" in done.stderr
