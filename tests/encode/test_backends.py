import numpy as np
import pytest
import torch

from mretrieve.encode.backends import architecture_of, load_backend
from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from tests.conftest import make_checkpoint
from tests.models.nomic import official_folder, tiny_config, tiny_model

TEXTS = ["cats and dogs", "a", "the fish"]


def wanted(folder):
    """Embeddings of `TEXTS` by the model class itself, one text at a time, without padding."""
    model, checkpoint = load_nomic_moe(folder), find_checkpoint(str(folder))
    tokenize = Encoder(str(folder))._tokenize
    rows = []
    for ids in tokenize([checkpoint.document_prefix + text for text in TEXTS], max_length=30):
        with torch.inference_mode():
            hidden = model(torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0]
        mean = hidden.mean(dim=0)
        rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


@pytest.mark.parametrize(("dtype", "backend"), [("fp32", "onnx"), ("fp32", "torch"), ("bf16", "torch")])
def test_an_official_checkpoint_is_run_by_our_own_code(tmp_path, monkeypatch, dtype, backend):
    folder = official_folder(tmp_path / "official")
    kind = architecture_of(find_checkpoint(str(folder)))
    assert (kind.family, kind.dim, kind.onnx) == ("nomic", 32, True)
    if backend == "torch":
        monkeypatch.setattr("mretrieve.encode.choose.BULK_TOKENS", 0)
    encoder = Encoder(str(folder), dtype=dtype)
    found = encoder.encode_documents(TEXTS)
    assert list(encoder._backends) == [(backend, dtype)]
    cosines = (found * wanted(folder)).sum(axis=1)
    assert cosines.min() > (0.99 if dtype == "bf16" else 1 - 1e-6)


def test_routers_that_need_whole_texts_run_in_plain_torch(tmp_path):
    official = official_folder(tmp_path / "official")
    folder = save_nomic_moe(tiny_model(tiny_config(router="sequence")), tmp_path / "own", tokenizer=official)
    checkpoint = find_checkpoint(str(folder))
    assert not architecture_of(checkpoint).onnx
    encoder = Encoder(str(folder), dtype="fp32")
    found = encoder.encode_documents(TEXTS)
    assert list(encoder._backends) == [("torch", "fp32")]
    np.testing.assert_allclose((found * wanted(folder)).sum(axis=1), 1, atol=1e-6)
    with pytest.raises(InputError, match="int8 works on the CPU with BERT-like models and with NomicMoE"):
        Encoder(str(folder), dtype="int8")


def test_other_architectures_and_modules_are_left_to_sentence_transformers(tmp_path):
    make_checkpoint(tmp_path / "max", pooling="max")
    kind = architecture_of(find_checkpoint(str(tmp_path / "max")))
    assert (kind.family, kind.dim, kind.onnx, kind.ours) == ("other", None, False, False)


def test_a_damaged_checkpoint_is_an_error_when_it_is_loaded(tmp_path):
    folder = official_folder(tmp_path / "official")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    checkpoint = find_checkpoint(str(folder))
    for backend in ("onnx", "torch"):
        with pytest.raises(InputError, match="model.safetensors"):
            load_backend(checkpoint, architecture_of(checkpoint), backend, device="cpu", dtype="fp32")
