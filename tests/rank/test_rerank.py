import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.rank.rerank import (
    CANDIDATES,
    Reranker,
    best_first,
    first_tokens,
    is_cross_encoder,
    rerank_hits,
)
from mretrieve.rank.retriever import Retriever
from mretrieve.types import Hit
from tests.conftest import make_checkpoint
from tests.rank.cross_encoders import make_cross_encoder

DOCUMENTS = ["a dog in the garden", "the cat sat", "", "rain " * 60, "the cat sat"]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    return make_cross_encoder(tmp_path_factory.mktemp("cross"))


def by_hand(folder, query, documents, max_length=40):
    """Probabilities by transformers alone, one pair at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = []
    for document in documents:
        pair = tokenizer([query], [document], truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            scores.append(model(**pair).logits.sigmoid().item())
    return scores


def test_a_cross_encoder_gives_the_models_own_probabilities(cross_encoder):
    reranker = Reranker(str(cross_encoder))
    scores = reranker.score("the cat", DOCUMENTS)
    assert (reranker.method, reranker.name) == ("cross-encoder", str(cross_encoder))
    assert (scores.dtype, scores.shape) == (np.float32, (5,))
    assert scores == pytest.approx(by_hand(cross_encoder, "the cat", DOCUMENTS), abs=1e-5)
    assert len({round(float(score), 4) for score in scores}) == 4  # two are the same text


def test_an_embedding_model_gives_cosines(model):
    reranker = Reranker(str(model))
    encoder = Encoder(str(model))
    expected = encoder.encode_documents(DOCUMENTS) @ encoder.encode_queries(["the cat"])[0]
    assert reranker.method == "embedding"
    assert reranker.score("the cat", DOCUMENTS) == pytest.approx(expected, abs=1e-6)


def test_what_a_cross_encoder_is(cross_encoder, model, tmp_path):
    assert is_cross_encoder(cross_encoder)
    assert not is_cross_encoder(model)
    files = {"config.json": {"architectures": ["Qwen3ForCausalLM"]}}
    files["config_sentence_transformers.json"] = {"model_type": "CrossEncoder"}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    assert is_cross_encoder(tmp_path)


@pytest.mark.parametrize("kind", ["cross-encoder", "embedding"])
def test_documents_are_ranked_with_equal_ones_in_their_order(cross_encoder, model, kind):
    reranker = Reranker(str(cross_encoder if kind == "cross-encoder" else model))
    scores = reranker.score("the cat", DOCUMENTS)
    ranked = reranker.rank("the cat", DOCUMENTS)
    assert [place for place, _ in ranked] == sorted(range(5), key=lambda place: (-scores[place], place))
    assert [score for _, score in ranked] == pytest.approx(sorted(scores.tolist(), reverse=True))
    assert reranker.rank("the cat", DOCUMENTS, top_n=2) == ranked[:2]
    assert reranker.rank("the cat", []) == []
    assert reranker.score("the cat", []).shape == (0,)


def test_best_first():
    assert best_first(np.array([0.5, 1.0, 0.5], np.float32)) == [(1, 1.0), (0, 0.5), (2, 0.5)]
    assert best_first(np.array([0.25, 1.0], np.float32), top_n=1) == [(1, 1.0)]


def test_threads_share_a_cross_encoder(cross_encoder):
    alone = {query: Reranker(str(cross_encoder)).score(query, DOCUMENTS) for query in ("the cat", "a dog")}
    reranker = Reranker(str(cross_encoder), batch_size=2)
    with ThreadPoolExecutor(4) as pool:
        work = [(query, pool.submit(reranker.score, query, DOCUMENTS)) for query in [*alone] * 6]
        for query, scores in work:
            assert scores.result() == pytest.approx(alone[query], abs=1e-5)


def test_tokens_of_pairs_are_counted_after_the_cut(cross_encoder, model):
    # Letters are pieces, with one for the space before a word: `a b` is 4, in a pair with three special
    # tokens of this tokenizer, or cut at 40.
    reranker = Reranker(str(cross_encoder))
    tokenizer = Encoder(str(model))
    [query] = tokenizer.count_tokens(["a b"])
    special = query - 4
    assert reranker.count_document_tokens(["a b", ""]) == [4, 0]
    pair = reranker.count_tokens("a b", ["a b"])
    assert 8 + special <= pair <= 8 + special + 2
    assert reranker.count_tokens("a b", ["a b", "x" * 500]) == pair + 40
    assert reranker.count_tokens("a b", []) == 0


def test_tokens_of_an_embedding_model_are_counted_after_the_cut(model):
    reranker = Reranker(str(model))
    [empty, two] = reranker.count_document_tokens(["", "a b"])
    assert (empty, two) == (0, 4)
    special = Encoder(str(model)).count_tokens([""])[0]
    assert reranker.count_tokens("a b", ["a b", "x" * 500]) == 2 * (4 + special) + 30


def test_the_longest_start_with_so_many_tokens():
    def count(text):
        return len(text.split())

    assert first_tokens("one two three", 3, count) == "one two three"
    assert first_tokens("one two three", 2, count).split() == ["one", "two"]
    assert first_tokens("one", 1, count) == "one"


def hit(doc_id, text, rank):
    return Hit(doc_id, 1 / rank, rank, "Title" if rank == 1 else "", text, "en", 0.5, rank, 2.0, rank)


def test_hits_get_the_rerankers_order_and_keep_the_scores_of_the_legs(cross_encoder):
    hits = [hit("a", "a dog", 1), hit("b", "the cat", 2), hit("c", "rain and sun", 3)]
    scores = by_hand(cross_encoder, "the cat", ["Title a dog", "the cat", "rain and sun"])
    found = rerank_hits(Reranker(str(cross_encoder)), "the cat", hits, top_k=2)
    order = np.argsort(-np.array(scores))[:2]
    assert [one.doc_id for one in found] == ["abc"[place] for place in order]
    assert [one.score for one in found] == pytest.approx([scores[place] for place in order], abs=1e-5)
    assert [one.rank for one in found] == [1, 2]
    assert [one.dense_rank for one in found] == [place + 1 for place in order]


def test_a_search_takes_a_reranker(small_index, cross_encoder):
    retriever = Retriever(small_index)
    reranker = Reranker(str(cross_encoder))
    candidates = retriever.search("the cat", top_k=CANDIDATES)
    expected = rerank_hits(reranker, "the cat", candidates, top_k=5)
    assert retriever.search("the cat", top_k=5, reranker=reranker) == expected
    assert [one.doc_id for one in expected] != [one.doc_id for one in candidates[:5]]
    with pytest.raises(InputError, match="top_k is 0"):
        retriever.search("the cat", top_k=0, reranker=reranker)


@pytest.mark.parametrize(
    ("query", "documents", "fault"),
    [("", ["a"], "The query is empty"), ("a", "abc", "Give a list of documents")],
)
def test_bad_arguments(model, query, documents, fault):
    with pytest.raises(InputError, match=fault):
        Reranker(str(model)).score(query, documents)


def test_models_that_cannot_be_used(cross_encoder, tmp_path):
    folders = [tmp_path / name for name in ("three", "pickle", "broken")]
    for folder in folders:
        folder.mkdir()
    make_cross_encoder(folders[0], outputs=3)
    with pytest.raises(InputError, match="gives 3 numbers per pair"):
        Reranker(str(folders[0]))
    make_cross_encoder(folders[1])
    (folders[1] / "model.safetensors").rename(folders[1] / "pytorch_model.bin")
    with pytest.raises(InputError, match="is a pickle, which can run code"):
        Reranker(str(folders[1]))
    make_cross_encoder(folders[2])
    (folders[2] / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be loaded"):
        Reranker(str(folders[2])).load()
    with pytest.raises(InputError, match="has no number type 'int8'"):
        Reranker(str(cross_encoder), dtype="int8")
    with pytest.raises(InputError, match="Unknown model 'nope'"):
        Reranker("nope")


def test_a_plain_encoder_is_no_cross_encoder_with_a_random_head(tmp_path):
    """sentence-transformers would put untrained weights on any encoder."""
    assert Reranker(str(make_checkpoint(tmp_path))).method == "embedding"
