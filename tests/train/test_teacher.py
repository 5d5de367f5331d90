"""The teacher gives the encoder's embeddings, each text's once."""

import numpy as np

from mretrieve.encode.encoder import Encoder
from mretrieve.train.teacher import Teacher


def test_embeddings_have_the_prompts_of_their_roles(base):
    teacher, encoder = Teacher(str(base), device="cpu"), Encoder(str(base), device="cpu")
    found = teacher.embed(["abc", "abc", "xyz"], ["query", "passage", "query"])
    queries, documents = encoder.encode_queries(["abc", "xyz"]), encoder.encode_documents(["abc"])
    np.testing.assert_allclose(found, np.stack([queries[0], documents[0], queries[1]]), atol=2e-2)
    assert found.dtype == np.float32
    assert teacher.dim == 32


def test_a_text_is_embedded_once(base, monkeypatch):
    teacher = Teacher(str(base), device="cpu")
    asked = []
    encode = Encoder.encode_queries
    monkeypatch.setattr(
        Encoder, "encode_queries", lambda self, texts: asked.append(list(texts)) or encode(self, texts)
    )
    first = teacher.embed(["abc", "abc", "de"], ["query"] * 3)
    second = teacher.embed(["de", "f"], ["query"] * 2)
    assert asked == [["abc", "de"], ["f"]]
    assert np.array_equal(first[2], second[0])
