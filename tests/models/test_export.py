import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from mretrieve.errors import InputError
from mretrieve.models import export
from mretrieve.models.export import EMBEDDED_BYTES, TOLERANCE, export_onnx
from mretrieve.models.modules import Head
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from mretrieve.models.upcycle import upcycle
from tests.models.nomic import official_folder, tiny_config, tiny_model
from tests.models.onnx_session import batch, by_torch, embeddings

TEXTS = ["a thing", "the longest sentence of them all", "of"]


@pytest.fixture
def official(tmp_path):
    return official_folder(tmp_path / "official")


def run(path, feed):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["last_hidden_state", "sentence_embedding"], feed)


def assert_equals_torch(path, model, *, vocab=34):
    for feed in (batch([1], vocab=vocab), batch([9, 20, 1], 25, vocab=vocab)):
        hidden, embedding = run(path, feed)
        wanted = by_torch(model, feed)
        np.testing.assert_allclose(hidden, wanted, rtol=0, atol=1e-5)
        np.testing.assert_allclose(
            embedding, embeddings(wanted, feed["attention_mask"]), rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_after_pooling_is_in_the_graph(official, tmp_path, bias):
    model = load_nomic_moe(official)
    weight = np.random.default_rng(0).normal(size=(4, model.sizes.hidden_size)).astype(np.float32)
    head = Head(weight, np.ones(4, np.float32) if bias else None)
    folder = save_nomic_moe(model, tmp_path / "headed", tokenizer=official, head=head)
    path = export_onnx(folder, tmp_path / "model.onnx").path
    feed = batch([9, 20, 1], 25, vocab=34)
    hidden, embedding = run(path, feed)
    mask = feed["attention_mask"][:, :, None]
    wanted = head((hidden * mask).sum(axis=1) / mask.sum(axis=1))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(embedding, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("opset", [17, 23])
def test_an_official_checkpoint_as_one_file(official, tmp_path, opset):
    seen = []
    path = tmp_path / "new" / "model.onnx"
    report = export_onnx(official, path, opset=opset, on_progress=lambda *step: seen.append(step))
    assert (report.path, report.opset, report.int8) == (path, opset, False)
    assert report.bytes == path.stat().st_size
    assert 0 < report.difference < TOLERANCE
    assert report.cosine > 1 - 1e-6
    assert_equals_torch(path, load_nomic_moe(official))
    model = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert os.listdir(path.parent) == ["model.onnx"]
    assert seen[0][:2] == ("weights", 0)
    assert seen[-1] == ("check", 0, None)


def test_our_own_checkpoint(official, tmp_path, checkpoint):
    base = checkpoint(kind="xlm-roberta")
    model = upcycle(base, moe_layers=(1,), num_experts=4)  # positions, expert biases, normalised gates
    folder = save_nomic_moe(model, tmp_path / "sparse", tokenizer=base)
    assert_equals_torch(export_onnx(folder, tmp_path / "m.onnx").path, model)
    dense = tiny_model(tiny_config(moe_layers=(), num_experts=0, moe_top_k=0))
    folder = save_nomic_moe(dense, tmp_path / "dense", tokenizer=official)
    assert_equals_torch(export_onnx(folder, tmp_path / "d.onnx").path, dense)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_bert_like_checkpoint_pools_as_its_folder_says(checkpoint, tmp_path, pooling):
    from transformers import AutoModel

    base = checkpoint(kind="xlm-roberta", pooling=pooling)
    path = export_onnx(base, tmp_path / "m.onnx").path
    feed = batch([7, 3], vocab=34)
    feed["input_ids"] = np.where(feed["attention_mask"], np.maximum(feed["input_ids"], 2), 1)
    with torch.no_grad():
        model = AutoModel.from_pretrained(base).eval()
        hidden = model(**{name: torch.from_numpy(array) for name, array in feed.items()}).last_hidden_state
    wanted = (
        embeddings(hidden.numpy(), feed["attention_mask"])
        if pooling == "mean"
        else torch.nn.functional.normalize(hidden[:, 0], dim=1).numpy()
    )
    np.testing.assert_allclose(run(path, feed)[1], wanted, rtol=0, atol=1e-5)


def test_a_folder_that_pools_in_another_way_gives_hidden_states_only(official, tmp_path):
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (official / "modules.json").write_text(json.dumps(modules))
    (official / "1_Pooling").mkdir()
    settings = official / "1_Pooling" / "config.json"
    for pooling, outputs in (("max", 1), ("mean", 2)):
        settings.write_text(json.dumps({f"pooling_mode_{pooling}_tokens": True}))
        path = export_onnx(official, tmp_path / f"{pooling}.onnx").path
        assert len(onnx.load(path).graph.output) == outputs


def test_weights_of_a_large_model_lie_beside_the_graph(official, tmp_path, monkeypatch):
    assert 2 * EMBEDDED_BYTES <= 2**31  # what a protobuf can hold
    monkeypatch.setattr(export, "EMBEDDED_BYTES", 1000)
    path = tmp_path / "m.onnx"
    report = export_onnx(official, path)
    data = tmp_path / "m.onnx_data"
    assert report.bytes == path.stat().st_size + data.stat().st_size
    assert path.stat().st_size < data.stat().st_size
    assert_equals_torch(path, load_nomic_moe(official))
    other = official_folder(tmp_path / "other", seed=5)
    export_onnx(other, path, overwrite=True)
    assert_equals_torch(path, load_nomic_moe(other))
    monkeypatch.undo()
    export_onnx(official, path, overwrite=True)
    assert not data.exists()
    assert_equals_torch(path, load_nomic_moe(official))


def test_int8(official, tmp_path):
    exact = export_onnx(official, tmp_path / "fp32.onnx")
    report = export_onnx(official, tmp_path / "int8.onnx", int8=True)
    assert report.int8
    assert 0.9 < report.cosine < 1 - 1e-6
    assert 1e-5 < report.difference < 0.5
    weights = onnx.load(report.path).graph.initializer
    types = {tensor.name: tensor.data_type for tensor in weights if len(tensor.dims) == 2}
    routers = {name for name in types if "router" in name}
    kept = {name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT}
    assert kept - routers <= {"rotary.cos", "rotary.sin", "places"} | {
        name for name in types if name.endswith("row_scale")
    }
    assert len(routers) == 2
    assert report.bytes < 0.6 * exact.bytes  # the graph itself is most of so small a model


def test_a_folder_has_what_sentence_transformers_reads(official, tmp_path):
    report = export_onnx(official, tmp_path / "folder")
    folder = tmp_path / "folder"
    assert report.path == folder / "onnx" / "model.onnx"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "1_Pooling/config.json",
        "config.json",
        "config_sentence_transformers.json",
        "modules.json",
        "onnx/model.onnx",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["hidden_size"] == 32
    assert config["exported_from"]["num_experts"] == 4
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 30
    assert folder.stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "official"]


def test_the_length_that_positions_allow_is_told(checkpoint, tmp_path):
    base = checkpoint(kind="xlm-roberta")
    (base / "sentence_bert_config.json").unlink()
    export_onnx(base, tmp_path / "folder")
    settings = json.loads((tmp_path / "folder" / "sentence_bert_config.json").read_text())
    assert settings["max_seq_length"] == 38  # 40 positions, of which texts take those from 2 on


# optimum-onnx 0.1.0 asks for an older transformers than the rest does, so it usually has an environment of
# its own; `benchmarks/st_onnx.py` says how to make one.
WITH_OPTIMUM = os.environ.get("MRETRIEVE_OPTIMUM_PYTHON", sys.executable)

BY_SENTENCE_TRANSFORMERS = """
import json, sys
import numpy
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], backend="onnx", device="cpu")
assert type(model[0].auto_model).__module__.startswith("optimum")
assert "mretrieve" not in sys.modules
texts = json.loads(sys.argv[2])
ids = model.tokenizer(["the " + text for text in texts], truncation=True, max_length=30)["input_ids"]
vectors = model.encode(texts, prompt_name="query")
print(json.dumps({"ids": ids, "vectors": vectors.tolist()}))
"""


@pytest.mark.skipif(
    WITH_OPTIMUM == sys.executable and importlib.util.find_spec("optimum") is None,
    reason="optimum-onnx, which sentence-transformers' ONNX backend needs, is not installed, and "
    "MRETRIEVE_OPTIMUM_PYTHON names no environment that has it",
)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp32", "large", "int8"])
def test_sentence_transformers_loads_the_folder(official, tmp_path, monkeypatch, kind):
    if kind == "large":
        monkeypatch.setattr(export, "EMBEDDED_BYTES", 1000)
    report = export_onnx(official, tmp_path / "folder", int8=kind == "int8")
    texts = TEXTS + ["the " * 100]
    call = [
        WITH_OPTIMUM,
        "-c",
        BY_SENTENCE_TRANSFORMERS,
        str(tmp_path / "folder"),
        json.dumps(texts),
    ]
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    found = json.loads(done.stdout.splitlines()[-1])
    model, wanted = load_nomic_moe(official), []
    for ids in found["ids"]:
        feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        if kind == "int8":  # the codes are the graph's; what torch thinks of them is tested elsewhere
            wanted.append(run(report.path, feed)[1][0])
        else:
            wanted.append(embeddings(by_torch(model, feed), feed["attention_mask"])[0])
    np.testing.assert_allclose(found["vectors"], wanted, rtol=0, atol=TOLERANCE)


def left_over(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_what_exists_is_kept_unless_told_otherwise(official, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"m\.onnx exists already: give another name, or --overwrite"):
        export_onnx(official, path)
    assert path.read_text() == "precious"
    export_onnx(official, path, overwrite=True)
    assert_equals_torch(path, load_nomic_moe(official))
    folder = tmp_path / "folder"
    folder.mkdir()
    export_onnx(official, folder)  # an empty one is free
    with pytest.raises(InputError, match="folder exists already"):
        export_onnx(official, folder)
    other = official_folder(tmp_path / "other", seed=5)
    report = export_onnx(other, folder, overwrite=True)
    assert_equals_torch(report.path, load_nomic_moe(other))
    with pytest.raises(InputError, match=r"official holds no onnx/model\.onnx, so it is not replaced"):
        export_onnx(other, official, overwrite=True)
    with pytest.raises(InputError, match=r"folder\.onnx is a folder"):
        (tmp_path / "folder.onnx").mkdir()
        export_onnx(other, tmp_path / "folder.onnx", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file is a file\. Give a new folder, or a name that ends with"):
        export_onnx(other, tmp_path / "file")
    assert not left_over(tmp_path)


def test_what_cannot_be_exported_is_named(official, tmp_path):
    out = tmp_path / "m.onnx"
    for opset in (16, 24):
        with pytest.raises(InputError, match=rf"Opset {opset} is not supported: choose from 17 to 23"):
            export_onnx(official, out, opset=opset)
    with pytest.raises(InputError, match=r"has no config\.json"):
        export_onnx(tmp_path, out)
    model = tiny_model(tiny_config(router="xmoe"))
    folder = save_nomic_moe(model, tmp_path / "xmoe", tokenizer=official)
    with pytest.raises(InputError, match="router 'xmoe' cannot be written as ONNX"):
        export_onnx(folder, out)
    (folder / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(InputError, match="model_type 't5'"):
        export_onnx(folder, out)
    (official / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        export_onnx(official, out)
    assert not out.exists()
    assert not left_over(tmp_path)


def test_a_graph_that_computes_something_else_is_not_kept(official, tmp_path, monkeypatch):
    from mretrieve.models import onnx_files

    right = onnx_files.weight_of

    def wrong(name, tensors):
        return right(name, tensors) * np.float32(1.01 if name.endswith("w1[40:80]") else 1)

    monkeypatch.setattr(onnx_files, "weight_of", wrong)
    out = tmp_path / "m.onnx"
    out.write_text("old")
    with pytest.raises(InputError, match="does not compute what the model does: embeddings differ by"):
        export_onnx(official, out, overwrite=True)
    assert out.read_text() == "old"
    assert not left_over(tmp_path)


def test_a_folder_that_cannot_be_written(official, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write"):
        export_onnx(official, tmp_path / "file" / "m.onnx")
