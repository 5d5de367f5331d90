"""One model: tokens, embeddings, and the change of gear."""

import json

import numpy as np
import pytest

from mretrieve import Encoder
from mretrieve.encode import backends
from mretrieve.encode.choose import BULK_TOKENS, QUERY_TOKENS
from mretrieve.serve.served import ServedModel, trained_dimensions

TEXTS = ["the cat", "a dog runs in the garden", "the", "cats and dogs"]


@pytest.fixture
def served(model):
    return ServedModel("tiny", Encoder(str(model), query_prefix="the ", document_prefix="a "))


def change_gear(served):
    served.gears.note(BULK_TOKENS)
    served.gears.wait()


def test_tokens_have_the_prompt_of_their_kind(served):
    assert (
        served.tokenize(["cat"], "query").ids[0].tolist()
        != served.tokenize(["cat"], "document").ids[0].tolist()
    )
    plain = ServedModel("plain", Encoder(str(served.encoder.checkpoint.folder), query_prefix=""))
    assert (
        served.tokenize(["cat"], "query").ids[0].tolist()
        == plain.tokenize(["the cat"], "query").ids[0].tolist()
    )


def test_long_texts_are_cut_and_counted(served):
    tokens = served.tokenize(["cat", "dog " * 50, "cat", "a " * 60], "query")
    assert [len(ids) for ids in tokens.ids[1::2]] == [served.max_length] * 2
    assert tokens.cut == 2
    assert tokens.total == sum(map(len, tokens.ids))
    assert tokens.ids[1][-1] == tokens.ids[0][-1]  # the mark of the end is kept


def test_embeddings_are_the_encoders(served):
    assert not served.is_loaded
    vectors = served.embed(served.tokenize(TEXTS, "query").ids)
    assert served.is_loaded
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(served.encoder.encode_queries(TEXTS), abs=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)


def test_enough_work_changes_gear_and_no_vector(served):
    ids = served.tokenize(TEXTS, "document").ids
    before = served.embed(ids)
    assert served._gear.backend == "onnx"
    change_gear(served)
    assert served._gear.backend == "torch"
    assert [a.tolist() for a in served.tokenize(TEXTS, "document").ids] == [a.tolist() for a in ids]
    cosines = (before * served.embed(ids)).sum(axis=1)
    assert cosines == pytest.approx(1, abs=1e-3)  # bfloat16 on a model of two layers


def test_where_there_is_one_gear_only_it_stays(model):
    served = ServedModel("tiny", Encoder(str(model), dtype="int8"))
    served.load()
    gear = served._gear
    change_gear(served)
    assert served._gear is gear
    assert served._tokenizer is not None


def test_a_gear_that_cannot_be_changed_is_kept(served, monkeypatch, caplog):
    served.load()
    monkeypatch.setattr("mretrieve.serve.served.load_backend", lambda *_, **__: 1 / 0)
    change_gear(served)
    assert "tiny goes on in its first gear: ZeroDivisionError" in caplog.text
    assert served._gear.backend == "onnx"
    assert len(served.embed(served.tokenize(TEXTS, "query").ids)) == len(TEXTS)


@pytest.mark.parametrize(
    ("file", "content", "sizes"),
    [
        ("config_sentence_transformers.json", {"matryoshka_dims": [8, 32, 16]}, [32, 16, 8]),
        ("config.json", {"matryoshka_dimensions": [4, 64, 16]}, [32, 16, 4]),
        ("config.json", {"matryoshka_dims": [16, "8", -1, 16]}, [32, 16]),
        ("config.json", {}, [32]),
    ],
)
def test_lengths_that_a_model_was_trained_for(checkpoint, file, content, sizes):
    folder = checkpoint()
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | content))
    assert ServedModel("one", Encoder(str(folder))).dimensions() == sizes


def test_official_models_that_do_not_write_it_down(checkpoint):
    class Named:
        def __init__(self, name, checkpoint):
            self.checkpoint = checkpoint
            self.checkpoint.name = name

    class Card:
        folder, config, name = checkpoint(), {}, ""

    assert trained_dimensions(Named("nomic-ai/nomic-embed-text-v2-moe@main", Card())) == [512, 256]
    assert trained_dimensions(Named("someone/else", Card())) == []


def test_short_queries_are_embedded_in_eight_bits_and_documents_are_not(served, monkeypatch):
    monkeypatch.setattr(backends, "LEAST_HIDDEN", 1)
    monkeypatch.setattr(backends, "LEAST_COSINE", 0.9)
    monkeypatch.setattr(backends, "cpu_has_int8", lambda: True)
    ids = served.tokenize(TEXTS, "query").ids
    exact, quick = served.embed(ids), served.embed(ids, queries=True)
    assert 0.99 < (exact * quick).sum(axis=1).min() < 1 - 1e-6
    np.testing.assert_allclose(served.embed(ids, queries=True, alone=True), quick, atol=1e-5)
    many = ids * QUERY_TOKENS
    np.testing.assert_array_equal(served.embed(many), served.embed(many, queries=True))
