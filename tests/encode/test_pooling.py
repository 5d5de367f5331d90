"""Token states to one vector a text."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from mretrieve.encode import choose
from mretrieve.encode.backends import architecture_of
from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.encoder import Encoder
from mretrieve.encode.pooling import pool
from mretrieve.models.modules import Head, head_settings, write_head

TEXTS = ["the being", "a longer text about the being of beings", "x"]


def test_three_ways_of_pooling():
    hidden = np.array([[1, 0], [3, 0], [0, 4]], np.float32)
    assert pool(hidden, [2, 1], mode="mean").tolist() == [[2, 0], [0, 4]]
    assert pool(hidden, [2, 1], mode="cls").tolist() == [[1, 0], [0, 4]]
    assert pool(hidden, [2, 1], mode="lasttoken").tolist() == [[3, 0], [0, 4]]


@pytest.fixture
def headed(checkpoint):
    """A checkpoint with a linear layer from 32 to 8 after pooling."""
    folder = checkpoint()
    generator = np.random.default_rng(0)
    head = Head(generator.normal(size=(8, 32)).astype(np.float32))
    write_head(head, folder / "2_Dense")
    (folder / "2_Dense" / "config.json").write_text(json.dumps(head_settings(head)))
    modules = json.loads((folder / "modules.json").read_text())[:2]
    kinds = {"2_Dense": "Dense", "3_Normalize": "Normalize"}
    modules += [
        {"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()
    ]
    modules = [entry | {"idx": number, "name": str(number)} for number, entry in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_a_head_is_applied_by_our_backends_as_by_the_library(headed, monkeypatch):
    assert architecture_of(find_checkpoint(str(headed))).dim == 8
    expected = SentenceTransformer(str(headed)).encode(TEXTS)
    assert expected.shape == (3, 8)
    np.testing.assert_allclose(Encoder(str(headed)).encode_documents(TEXTS), expected, atol=2e-5)
    monkeypatch.setattr(choose, "BULK_TOKENS", 0)
    encoder = Encoder(str(headed), dtype="fp32")
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), expected, atol=2e-5)


def test_another_head_is_another_model(headed):
    before = find_checkpoint(str(headed)).fingerprint()
    write_head(Head(np.eye(8, 32, dtype=np.float32)), headed / "2_Dense")
    assert find_checkpoint(str(headed)).fingerprint() != before
