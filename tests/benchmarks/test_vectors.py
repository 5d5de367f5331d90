"""Each text is encoded once, whoever asks for it and however often the work was stopped."""

import numpy as np
import pytest
from vectors import VectorStore


@pytest.fixture
def texts():
    return [f"word{n} and more" for n in range(50)]


def encoded(store):
    return [text for call in store.encoder.calls for text in call]


def test_vectors_are_the_models_own(store, texts):
    one = store()
    found = one.documents(texts)
    assert found.dtype == np.float32
    assert found == pytest.approx(one.encoder.encode_documents(texts), abs=1e-3)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_each_text_is_encoded_once(store, texts):
    one = store()
    first = one.documents(texts)
    again = one.documents([*texts[::-1], "another", "another"])
    assert encoded(one) == [*texts, "another"]
    assert len(one) == 51
    assert np.array_equal(again[49::-1], first)
    assert np.array_equal(again[50], again[51])


def test_they_outlive_the_process(tmp_path, store, texts):
    first = store().documents(texts)
    other = store()
    assert len(other) == 50
    assert np.array_equal(other.documents(texts), first)
    assert encoded(other) == []


def test_work_that_was_stopped_goes_on(monkeypatch, store, texts):
    monkeypatch.setattr("vectors.SHARD_BYTES", 100)
    one = store()
    encode, calls = one.encoder.encode_documents, []

    def stop_at_the_fourth(batch):
        calls.append(batch)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(batch)

    one.encoder.encode_documents = stop_at_the_fourth
    with pytest.raises(KeyboardInterrupt):
        one.documents(texts)
    done = sum(map(len, calls[:3]))
    other = store()
    assert len(other) == done > 0
    other.documents(texts)
    assert encoded(other) == texts[done:]


def test_prompts_tell_queries_from_documents(store, texts):
    one = store()
    one.encoder.query_prefix, one.encoder.document_prefix = "query: ", "passage: "
    one.queries(texts)
    one.documents(texts)
    assert len(one) == 100


def test_no_texts(store):
    assert store().queries([]).shape == (0, 512)


def test_models_have_folders_of_their_own(monkeypatch, tmp_path, store):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path))
    encoder = store().encoder
    encoder.name = "models/my model@main"
    folder = VectorStore(encoder).folder
    encoder.fingerprint = "1"
    assert VectorStore(encoder).folder != folder
    assert folder.is_relative_to(tmp_path)
    assert folder.name.startswith("my-model-main-0-cpu-fp32")


def test_progress_is_told(monkeypatch, tmp_path, store, texts):
    monkeypatch.setattr("vectors.SHARD_BYTES", 200)
    told = []
    one = VectorStore(store().encoder, folder=tmp_path / "own", on_progress=lambda *what: told.append(what))
    one.documents(texts)
    assert told[-1] == ("encoding", 50, 50)
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
