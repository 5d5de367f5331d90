import numpy as np
import pytest

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.indexing import build_index
from mretrieve.mine.pool import Pool
from mretrieve.rank.retriever import Retriever
from mretrieve.types import Query


def test_queries_are_encoded_as_the_index_says(pool, model, questions):
    expected = Encoder(str(model)).encode_queries([query.text for query in questions[:3]])
    np.testing.assert_allclose(pool.encode([*questions[:3], questions[0]])[:3], expected, atol=1e-5)


def test_vectors_of_the_last_queries_are_kept_for_their_parts(pool, questions, monkeypatch):
    calls = []
    encode = pool.encoder.encode_queries
    monkeypatch.setattr(
        pool.encoder, "encode_queries", lambda texts: calls.append(len(texts)) or encode(texts)
    )
    pool.encode(questions[10:20])
    pool.encode(questions[12:14])
    pool.encode(questions[10:20])
    pool.encode(questions[19:21])
    assert calls == [10, 2]


def test_rows_and_documents(pool, data):
    ids = [data.documents[4]["_id"], data.documents[0]["_id"]]
    assert pool.rows(ids).tolist() == [4, 0]
    assert [one.doc_id for one in pool.documents([4, 0])] == ids
    with pytest.raises(InputError, match=r"does not hold the document 'x' .* \(2 are missing\)"):
        pool.rows([ids[0], "x", "y"])


def test_languages_are_found_where_none_is_given(pool):
    german = "Wer lieferte die Holzschnitte für die Bibel?"
    found = pool.with_languages([Query("1", german), Query("2", "x", "sw")])
    assert [query.lang for query in found] == ["de", "sw"]
    assert pool.languages == ["de", "en", "es"]


def test_a_retriever_that_is_there_already(index):
    retriever = Retriever(index)
    assert Pool(retriever).retriever is retriever


def test_what_an_index_lacks(tmp_path, data):
    build_index(data.folder, tmp_path / "words", dense=False)
    words = Pool(tmp_path / "words")
    assert (words.can_search_words, words.can_search_meaning) == (True, False)
    with pytest.raises(InputError, match="has no dense part"):
        words.search_meaning([Query("1", "a cat", "en")], 3)
    with pytest.raises(InputError, match="There is no index"):
        Pool(tmp_path / "nothing")


def test_documents_without_a_language(tmp_path, model):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"_id": "1", "text": "12345"}\n', "utf-8")
    build_index(path, tmp_path / "index", model=str(model), lexical=False)
    assert Pool(tmp_path / "index").documents([0])[0].lang == ""
