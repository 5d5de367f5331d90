import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mretrieve.encode.flat_nomic import FlatNomic, router_shapes, runs_flat
from mretrieve.encode.pooling import pool
from mretrieve.errors import InputError
from mretrieve.models import packed
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from mretrieve.models.nomic_shapes import tensor_shapes
from tests.models.nomic import ABSENT, FIXTURE, official_folder, tiny_config, tiny_model

BATCHES = ["full", "left_padded", "long", "mixed", "overpadded", "single_len1", "text_passage", "text_query"]
LENGTHS = (40, 33, 33, 32, 12, 12, 5, 1, 1)
VARIANTS = {
    "official": {},
    "absolute": {"position_embedding_type": "absolute", "first_position": 2, "type_vocab_size": 2},
    "normalized with expert biases": {"normalize_gates": True, "expert_biases": True},
    "partly rotary": {"rotary_fraction": 0.5, "rotary_base": 100.0},
    "partly rotary, interleaved": {"rotary_fraction": 0.5, "rotary_interleaved": True, "rotary_base": 100.0},
    "interleaved": {"rotary_interleaved": True},
    "tanh, no biases": {"hidden_act": "gelu_pytorch_tanh", "attention_bias": False, "fc1_bias": False},
    "no outer bias": {"fc2_bias": False},
    "relu, all layers, top 1": {"hidden_act": "relu", "moe_layers": (0, 1, 2), "moe_top_k": 1},
    "dense": {"moe_layers": (), "num_experts": 0, "moe_top_k": 0},
    "hypersphere router": {"router": "xmoe", "router_dim": 3},
    "top-p router": {"router": "top_p"},
    "stratified router": {"router": "stratified"},
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def texts(n_words=48, lengths=LENGTHS):
    rng = np.random.default_rng(5)
    return [rng.integers(4, n_words, length).astype(np.int32) for length in lengths]


def saved(tmp_path, **changes):
    """A small model, and its folder in our own format."""
    model = tiny_model(tiny_config(**changes))
    tokenizer = official_folder(tmp_path / "tokenizer")
    return model, save_nomic_moe(model, tmp_path / "model", tokenizer=tokenizer)


def packed_states(model, batch):
    with torch.inference_mode():
        ids = torch.from_numpy(np.concatenate(batch)).long()
        output = model.forward_packed(ids, [len(one) for one in batch])
        return output.last_hidden_state.float().numpy()


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_it_equals_the_model(tmp_path, changes):
    model, folder = saved(tmp_path, **changes)
    found = FlatNomic(folder).hidden_states(texts())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, packed_states(model, texts()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_expected_tensors_are_those_that_are_saved(tmp_path, changes):
    model, _ = saved(tmp_path, **changes)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert tensor_shapes(model.sizes, router_shapes(model.sizes)) == shapes


def test_official_folders_are_read_too(tmp_path):
    folder = official_folder(tmp_path / "model")
    wanted = packed_states(load_nomic_moe(folder), texts())
    np.testing.assert_allclose(FlatNomic(folder).hidden_states(texts()), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", BATCHES)
def test_official_embeddings_are_reproduced(name):
    if not FIXTURE.exists():
        pytest.skip(ABSENT)
    with np.load(FIXTURE / "reference" / f"{name}.npz") as arrays:
        wanted = {key: arrays[key] for key in arrays.files}
    masks = wanted["attention_mask"].astype(bool)
    batch = [ids[mask].astype(np.int32) for ids, mask in zip(wanted["input_ids"], masks, strict=True)]
    hidden = FlatNomic(FIXTURE).hidden_states(batch)
    vectors = pool(hidden, [len(one) for one in batch], mode="mean")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, wanted["embeddings"], rtol=0, atol=1e-5)
    if "last_hidden_state" in wanted:
        np.testing.assert_allclose(hidden, wanted["last_hidden_state"][masks], rtol=0, atol=5e-5)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_stored_type_runs_in_any_other(tmp_path, stored, dtype):
    model, folder = saved(tmp_path, moe_layers=(), num_experts=0, moe_top_k=0)
    file = folder / "model.safetensors"
    save_file({name: tensor.to(stored) for name, tensor in load_file(file).items()}, file)
    found = FlatNomic(folder, dtype=dtype).hidden_states(texts())
    exact = stored == dtype == torch.float32
    wanted = packed_states(model if exact else model.to(stored).float(), texts())
    assert cosines(found, wanted).min() > (1 - 1e-6 if dtype == torch.float32 else 0.999)


def test_bfloat16_of_experts_is_as_close_as_the_models_own(tmp_path):
    """Near-ties send single tokens to other experts, so the middle of all tokens is compared."""
    model, folder = saved(tmp_path)
    exact = packed_states(model, texts())
    found = np.median(cosines(FlatNomic(folder, dtype=torch.bfloat16).hidden_states(texts()), exact))
    plain = np.median(cosines(packed_states(model.bfloat16(), texts()), exact))
    assert found > 0.999
    assert 1 - found < 1.5 * (1 - plain)


def test_texts_do_not_see_each_other(tmp_path):
    _, folder = saved(tmp_path)
    model = FlatNomic(folder)
    alone = np.concatenate([model.hidden_states([one]) for one in texts()])
    np.testing.assert_allclose(model.hidden_states(texts()), alone, rtol=0, atol=1e-5)


def test_without_packed_layers_it_says_so_and_stays_right(tmp_path, monkeypatch, caplog):
    model, folder = saved(tmp_path)

    def refuse(*_, **__):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(packed, "_pack", refuse)
    with caplog.at_level(logging.WARNING):
        found = FlatNomic(folder).hidden_states(texts())
    assert "no such kernel" in caplog.text
    np.testing.assert_allclose(found, packed_states(model, texts()), rtol=0, atol=1e-5)


def test_routers_of_whole_texts_do_not_run_flat():
    assert runs_flat(tiny_config())
    assert runs_flat(tiny_config(moe_layers=(), num_experts=0, moe_top_k=0, router="sequence"))
    assert not runs_flat(tiny_config(router="sequence"))


def test_too_long_texts_are_refused(tmp_path):
    _, folder = saved(tmp_path, position_embedding_type="absolute", first_position=2)
    model = FlatNomic(folder)
    assert model.hidden_states(texts(lengths=[62])).shape == (62, 32)
    with pytest.raises(InputError, match="A text of 63 tokens is longer than the 62"):
        model.hidden_states(texts(lengths=[63]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("emb_ln.bias"), r"lacks 1 tensor\(s\): emb_ln.bias"),
        (lambda t: t.update(more=torch.ones(2)), r"has 1 tensor\(s\): more that its config"),
        (
            lambda t: t.update({"emb_ln.bias": torch.ones(2)}),
            r"wrong shape in 1 tensor\(s\): emb_ln.bias \(2,\) instead of \(32,\)",
        ),
    ],
    ids=["missing", "extra", "wrong"],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, message):
    _, folder = saved(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=message):
        FlatNomic(folder)


@pytest.mark.slow
def test_it_needs_no_transformers():
    code = "import sys, mretrieve.encode.flat_nomic\nprint('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
