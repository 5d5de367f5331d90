import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mretrieve.encode import onnx_nomic
from mretrieve.encode.onnx_nomic import OnnxNomic
from mretrieve.errors import InputError
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from tests.models.nomic import ABSENT, FIXTURE, official_folder, tiny_config, tiny_model

IDS = [np.array([0, *range(4, 4 + n), 2], np.int32) for n in (7, 1, 20, 3)]
ABSOLUTE = {
    "position_embedding_type": "absolute",
    "first_position": 2,
    "normalize_gates": True,
    "expert_biases": True,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def official(tmp_path):
    return official_folder(tmp_path / "official")


def by_torch(model):
    with torch.no_grad():
        states = [model(torch.tensor([ids.tolist()])).last_hidden_state[0] for ids in IDS]
    return torch.cat(states).numpy()


def test_it_equals_torch(official, tmp_path):
    wanted = by_torch(load_nomic_moe(official))
    np.testing.assert_allclose(OnnxNomic(official).hidden_states(IDS), wanted, rtol=0, atol=1e-5)
    model = tiny_model(tiny_config(**ABSOLUTE))
    folder = save_nomic_moe(model, tmp_path / "absolute", tokenizer=official)
    np.testing.assert_allclose(OnnxNomic(folder).hidden_states(IDS), by_torch(model), rtol=0, atol=1e-5)


@pytest.mark.skipif(not FIXTURE.exists(), reason=ABSENT)
@pytest.mark.parametrize("name", ["mixed", "overpadded", "long", "single_len1"])
def test_the_reference_activations(name):
    with np.load(FIXTURE / "reference" / f"{name}.npz") as wanted:
        real = wanted["attention_mask"].astype(bool)
        batch = [ids[row].astype(np.int32) for ids, row in zip(wanted["input_ids"], real, strict=True)]
        found = OnnxNomic(FIXTURE).hidden_states(batch)
        np.testing.assert_allclose(found, wanted["last_hidden_state"][real], rtol=0, atol=5e-5)


def test_padding_changes_nothing(official):
    model = OnnxNomic(official)
    alone = np.concatenate([model.hidden_states([ids]) for ids in IDS])
    np.testing.assert_allclose(model.hidden_states(IDS), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_checkpoints_of_other_types_are_converted_once(official, cache, dtype):
    tensors = load_file(official / "model.safetensors")
    half = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    save_file(half, official / "model.safetensors", metadata={"format": "pt"})
    wanted = by_torch(load_nomic_moe(official))
    for _ in range(2):
        found = OnnxNomic(official).hidden_states(IDS)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    (data,) = cache.glob("graphs/*/weights.bin")
    numbers = sum(tensor.numel() for name, tensor in tensors.items() if not name.startswith("embeddings."))
    assert data.stat().st_size >= 4 * numbers


def test_float32_weights_are_not_copied(official, cache):
    OnnxNomic(official)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["model.onnx"]
    tables = 2 * 64 * 4 * 4  # cosines and sines, which no checkpoint holds
    (graph,) = cache.rglob("model.onnx")
    largest = load_file(official / "model.safetensors")["encoder.layers.1.mlp.experts.mlp.w1"]
    assert tables < graph.stat().st_size < 40_000
    assert largest.numel() * 4 > 20_000


def test_a_checkpoint_behind_links_is_used_in_place(official, tmp_path, cache):
    """As the hub's cache keeps them: a folder of links to files with other names."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for name in ("config.json", "model.safetensors"):
        (official / name).rename(blobs / f"blob-{name[:3]}")
        (snapshot / name).symlink_to(blobs / f"blob-{name[:3]}")
    found = OnnxNomic(snapshot).hidden_states(IDS)
    np.testing.assert_allclose(found, by_torch(load_nomic_moe(snapshot)), rtol=0, atol=1e-5)
    assert not list(cache.rglob("weights.bin"))


def test_a_checkpoint_that_changed_is_read_anew(official, tmp_path):
    before = OnnxNomic(official).hidden_states(IDS)
    other = official_folder(tmp_path / "other", seed=5)
    (other / "model.safetensors").rename(official / "model.safetensors")
    after = OnnxNomic(official).hidden_states(IDS)
    np.testing.assert_allclose(after, by_torch(load_nomic_moe(official)), rtol=0, atol=1e-5)
    assert np.abs(after - before).max() > 0.1


@pytest.mark.parametrize("int8", [False, True])
def test_packed_weights_give_the_same(official, monkeypatch, int8):
    monkeypatch.setattr(onnx_nomic, "PACK_AFTER", 3)
    model = OnnxNomic(official, int8=int8)
    results, sessions = [], []
    for _ in range(4):
        results.append(model.hidden_states(IDS))
        sessions.append(model._session)
    assert sessions[0] is sessions[1] is not sessions[2] is sessions[3]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=0, atol=1e-5)


def test_int8_is_close_and_not_equal(tmp_path, official):
    model = tiny_model(tiny_config(moe_top_k=4))  # of four: else rounding changes who goes where
    folder = save_nomic_moe(model, tmp_path / "full", tokenizer=official)
    exact, rounded = OnnxNomic(folder).hidden_states(IDS), OnnxNomic(folder, int8=True).hidden_states(IDS)
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert 0.995 < cosine.min() < 1 - 1e-6


def test_other_routers_and_damaged_checkpoints_are_named(official, tmp_path):
    folder = save_nomic_moe(tiny_model(tiny_config(router="xmoe")), tmp_path / "xmoe", tokenizer=official)
    with pytest.raises(InputError, match="router 'xmoe' cannot be written as ONNX"):
        OnnxNomic(folder)
    tensors = load_file(official / "model.safetensors")
    del tensors["encoder.layers.3.mlp.experts.bias"]
    save_file(tensors | {"extra": torch.zeros(1)}, official / "model.safetensors")
    with pytest.raises(InputError, match=r"lacks 1 tensor\(s\): encoder.layers.3.mlp.experts.bias, and has"):
        OnnxNomic(official)


def test_it_needs_neither_torch_nor_transformers_nor_onnx(official):
    OnnxNomic(official)  # makes the graph, which needs onnx
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from mretrieve.encode.onnx_nomic import OnnxNomic\n"
        f"OnnxNomic(Path({str(official)!r})).hidden_states([np.array([0, 5, 2], np.int32)])\n"
        "print([name for name in ('torch', 'transformers', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
