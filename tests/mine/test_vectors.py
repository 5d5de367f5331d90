import numpy as np
import pytest

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.index.open import open_index
from mretrieve.indexing import build_index
from mretrieve.mine.vectors import DocumentVectors


@pytest.fixture(scope="module")
def encoded(data, model):
    return Encoder(str(model), dtype="fp32").encode_documents([one["text"] for one in data.documents])


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF2,Flat"])
def test_vectors_are_those_that_were_indexed(tmp_path, data, model, encoded, factory):
    build_index(data.folder, tmp_path / "index", model=str(model), dtype="fp32", faiss=factory, lexical=False)
    vectors = DocumentVectors(open_index(tmp_path / "index"))
    rows = np.array([70, 0, 33, 0])
    np.testing.assert_allclose(vectors.get(rows), encoded[rows], atol=1e-5)


@pytest.mark.parametrize("block", [7, 65_536])
def test_nearest_in_a_language_is_exact(index, data, encoded, monkeypatch, block):
    monkeypatch.setattr("mretrieve.mine.vectors._BLOCK_ROWS", block)
    queries, vectors = encoded[:5], DocumentVectors(open_index(index))
    rows, scores = vectors.nearest(queries, "es", 4)
    spanish = np.array([row for row, one in enumerate(data.documents) if one["lang"] == "es"])
    expected = np.sort(queries @ vectors.get(spanish).T, axis=1)[:, ::-1][:, :4]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert set(rows.ravel()) <= set(spanish)


def test_languages_with_few_documents_or_none(index, encoded):
    vectors = DocumentVectors(open_index(index))
    rows, scores = vectors.nearest(encoded[:2], "de", 1000)
    assert rows.shape == scores.shape == (2, 25)
    assert vectors.nearest(encoded[:2], "sw", 3)[0].shape == (2, 0)


def test_an_index_without_vectors(tmp_path, data):
    build_index(data.folder, tmp_path / "index", dense=False)
    with pytest.raises(InputError, match="has no vectors"):
        DocumentVectors(open_index(tmp_path / "index"))
