import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.milvus.retriever import MilvusRetriever
from mretrieve.rank.retriever import Retriever
from mretrieve.types import Query
from tests.conftest import COLLECTION, SHARED

ROUNDING = 1e-3
"""By which scores of the same texts may differ, whose last digits depend on their batch."""

QUERIES = [
    Query("1", "a cat in the garden", "en"),
    Query("2", "Hund im Wald", "de"),
    Query("3", "الجبال", "ar"),
    Query("4", "แม่น้ำ", "th"),
]


def test_dense_hits_are_those_of_faiss(retriever, small_index):
    ours = Retriever(small_index)
    for query, hits in zip(QUERIES, retriever.rank(QUERIES, mode="dense"), strict=True):
        expected = ours.search(query.text, mode="dense", lang=query.lang)
        assert [hit.doc_id for hit in hits] == [hit.doc_id for hit in expected]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)
        assert hits[0].dense_rank == 1 and hits[0].bm25_rank is None


def test_bm25_finds_the_same_documents_as_lucene(retriever, small_index):
    ours = Retriever(small_index)
    for query, hits in zip(QUERIES, retriever.rank(QUERIES, mode="bm25"), strict=True):
        expected = ours.search(query.text, mode="bm25", lang=query.lang)
        assert [hit.doc_id for hit in hits] == [hit.doc_id for hit in expected]
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_hybrid_is_the_sum_of_reciprocal_ranks(retriever):
    query = QUERIES[0]
    dense, bm25, hybrid = (
        retriever.search(query.text, mode=m, lang="en") for m in ("dense", "bm25", "hybrid")
    )
    expected = {hit.doc_id: 1 / (60 + hit.rank) for hit in dense}
    for hit in bm25:
        expected[hit.doc_id] += 1 / (60 + hit.rank)
    assert {hit.doc_id: hit.score for hit in hybrid} == pytest.approx(expected, abs=1e-6)
    assert hybrid[0].doc_id == max(expected, key=expected.__getitem__)


def test_hits_carry_their_document(retriever):
    hit = next(hit for hit in retriever.search("cats", lang="en") if hit.doc_id == "cat")
    record = COLLECTION[0]
    assert (hit.title, hit.text, hit.lang) == (record["title"], record["text"], "en")
    assert len(retriever.search("cats", top_k=2)) == 2


def test_queries_without_words_and_languages_without_documents(retriever):
    assert len(retriever.search("?!", lang="en")) == 6
    assert retriever.search("?!", lang="en", mode="bm25") == []
    assert len(retriever.search("chat", lang="fr")) == 6


def test_what_cannot_be_asked(retriever, filled, tmp_path, checkpoint):
    with pytest.raises(InputError, match="query is empty"):
        retriever.search("  ")
    with pytest.raises(InputError, match="from 1 to 16,384"):
        retriever.search("cat", top_k=0)
    with pytest.raises(InputError, match="Unknown mode"):
        retriever.search("cat", mode="words")
    with pytest.raises(InputError, match=r"--fusion rrf:K"):
        MilvusRetriever(filled, fusion="zscore:0.5")
    with pytest.raises(InputError, match=r"There is no file .*none\.db"):
        MilvusRetriever(f"milvus:{tmp_path / 'none.db'}")
    with pytest.raises(InputError, match="There is no collection"):
        MilvusRetriever(f"{filled}#other")


def test_another_model_is_refused(retriever, checkpoint):
    from mretrieve.encode.encoder import Encoder

    retriever.encoder = Encoder(str(checkpoint(seed=2)))
    with pytest.raises(InputError, match="search with those weights"):
        retriever.search("cat")


@pytest.mark.slow
def test_as_good_as_a_folder_on_real_questions(tmp_path, e5_folder):
    """XQuAD's German paragraphs: the dense hits of exact FAISS, and nDCG@10 within 0.02."""
    from mretrieve.datasets.qrels import read_qrels
    from mretrieve.datasets.queries import read_queries
    from mretrieve.evaluate.measures import evaluate
    from mretrieve.indexing import build_index
    from mretrieve.milvus.build import build_collection
    from mretrieve.recipe import Recipe

    folder = SHARED / "xquad" / "de"
    if not folder.is_dir():
        pytest.skip(f"XQuAD is not in {SHARED}")
    recipe = Recipe().with_choices(lang="de")
    build_index(folder, tmp_path / "ours", recipe=recipe, faiss="Flat")
    address = f"milvus:{tmp_path / 'theirs.db'}"
    build_collection(folder, address, recipe=recipe)
    topics = [Query(one.query_id, one.text, "de") for one in read_queries(folder)][:100]
    ours = Retriever(tmp_path / "ours")
    with MilvusRetriever(address) as theirs:
        dense = theirs.rank(topics, top_k=10, mode="dense")
        hybrid = theirs.rank(topics, top_k=10)
    ranked = ours.rank(topics, top_k=10, mode="dense")
    for hits, one in zip(dense, ranked, strict=True):
        scores = one.ranking.scores
        np.testing.assert_allclose([hit.score for hit in hits], scores, atol=ROUNDING)
        others = {*ours.doc_ids(one.ranking)} ^ {hit.doc_id for hit in hits}
        found = {hit.doc_id: hit.score for hit in hits}
        found |= dict(zip(ours.doc_ids(one.ranking), scores.tolist(), strict=True))
        # Of two documents that share the last place, either may have it.
        assert all(found[doc_id] <= scores[-1] + ROUNDING for doc_id in others)
    run = {
        one.query_id: {hit.doc_id: hit.score for hit in hits}
        for one, hits in zip(topics, hybrid, strict=True)
    }
    mine = {
        topic.query_id: dict(zip(ours.doc_ids(one.ranking), one.ranking.scores.tolist(), strict=True))
        for topic, one in zip(topics, ours.rank(topics, top_k=10), strict=True)
    }
    qrels = {one: grades for one, grades in read_qrels(next(folder.glob("qrels/*"))).items() if one in run}
    scores = [evaluate(one, qrels, ["nDCG@10"]).mean["nDCG@10"] for one in (run, mine)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)
