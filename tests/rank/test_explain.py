import numpy as np
import pytest

from mretrieve import InputError, Retriever
from mretrieve.encode.encoder import Encoder
from mretrieve.rank.explain import closeness, search_explained, similar
from mretrieve.rank.fusion import Fusion

MODES = ["hybrid", "dense", "bm25"]


@pytest.fixture(scope="module")
def retriever(small_index):
    return Retriever(small_index)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("query", ["the cat in the garden", "Der Hund im Wald", "النهر", "แม่น้ำ"])
def test_hits_are_those_of_the_retriever(retriever, mode, query):
    answer = search_explained(retriever, query, top_k=3, mode=mode)
    assert answer.mode == mode
    expected = retriever.search(query, top_k=3, mode=mode)
    assert [one.hit.doc_id for one in answer.hits] == [hit.doc_id for hit in expected]
    assert [one.hit.score for one in answer.hits] == pytest.approx([hit.score for hit in expected])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fusion", ["zscore:0.3", "rrf:60", "minmax:0.5", "zscore:0", "minmax:1"])
def test_parts_add_up_to_the_score(small_index, mode, fusion):
    answer = search_explained(Retriever(small_index, fusion=fusion), "the cat", top_k=6, mode=mode)
    assert answer.hits
    for one in answer.hits:
        assert one.dense_part + one.bm25_part + one.unseen_part == pytest.approx(one.hit.score, abs=1e-5)


def test_a_leg_that_was_not_asked_adds_nothing(retriever):
    for one in search_explained(retriever, "the cat", mode="dense").hits:
        assert (one.bm25_part, one.unseen_part, one.bm25_level) == (0, 0, None)
    for one in search_explained(retriever, "the cat", mode="bm25").hits:
        assert (one.dense_part, one.unseen_part, one.dense_level) == (0, 0, None)


def test_a_leg_without_weight_adds_nothing(small_index):
    for fusion, part in (("zscore:0", "dense_part"), ("zscore:1", "bm25_part")):
        answer = search_explained(Retriever(small_index, fusion=fusion), "the cat", top_k=6)
        assert answer.hits
        assert {getattr(one, part) for one in answer.hits} == {one.unseen_part for one in answer.hits} == {0}


def test_hits_say_what_joined_the_legs(small_index):
    retriever = Retriever(small_index)
    retriever.tuned = {"en": Fusion.parse("minmax:0.9")}
    fusions = [search_explained(retriever, "the cat", lang=lang).hits[0].fusion for lang in ("en", "de")]
    assert fusions == [Fusion.parse("minmax:0.9"), retriever.fusion]
    assert search_explained(retriever, "the cat", mode="dense").hits[0].fusion is None


def test_only_other_languages_get_the_benefit_of_the_doubt(retriever):
    answer = search_explained(retriever, "the cat", top_k=6)
    assert answer.lang == "en"
    assert {one.hit.lang for one in answer.hits if one.unseen_part} <= {"de", "ar", "th"}
    assert all(one.unseen_part == 0 for one in answer.hits if one.hit.lang == "en")
    assert any(one.unseen_part > 0 for one in answer.hits)


def test_levels_run_from_the_weakest_candidate_to_the_best(retriever):
    hits = search_explained(retriever, "the cat", top_k=6).hits
    dense = {one.hit.dense_rank: one.dense_level for one in hits}
    assert dense[1] == 1 and dense[6] == 0
    assert all(0 <= level <= 1 for level in dense.values())
    for one in hits:
        assert (one.bm25_level is None) == (one.hit.bm25_score is None)


def test_levels_do_not_depend_on_how_many_hits_are_asked_for(retriever):
    few, many = (search_explained(retriever, "the cat", top_k=n, mode="dense").hits for n in (2, 6))
    assert [one.dense_level for one in few] == [one.dense_level for one in many[:2]]


def test_languages_are_filtered(retriever):
    answer = search_explained(retriever, "the cat", top_k=6, languages=["de", "th"])
    assert {one.hit.lang for one in answer.hits} == {"de", "th"}


def test_similar_leaves_the_document_itself_out(retriever):
    row = search_explained(retriever, "cat mat", top_k=1, mode="bm25").hits[0].row
    answer = similar(retriever, row, top_k=5)
    assert row not in [one.row for one in answer.hits]
    assert [one.hit.rank for one in answer.hits] == [1, 2, 3, 4, 5]
    by_words = similar(retriever, row, mode="bm25").hits
    assert [one.hit.doc_id for one in by_words] == ["dog"]  # the only other text with a cat


@pytest.mark.parametrize("row", [-1, 6])
def test_similar_to_a_row_that_is_not_there(retriever, row):
    with pytest.raises(InputError, match=f"no document number {row}"):
        similar(retriever, row)


@pytest.mark.parametrize("query", ["", "   "])
def test_an_empty_query(retriever, query):
    with pytest.raises(InputError, match="empty"):
        search_explained(retriever, query)


def test_closeness_is_the_cosine(retriever, model):
    encoder = Encoder(str(model))
    texts = ["the cat", "garden"]
    expected = encoder.encode_documents(texts) @ encoder.encode_queries(["cats"])[0]
    np.testing.assert_allclose(closeness(retriever, "cats", texts), expected, atol=1e-5)


def test_closeness_needs_a_model(collection, tmp_path):
    from mretrieve.indexing import build_index

    build_index(collection, tmp_path / "words", dense=False)
    with pytest.raises(InputError, match="no dense part"):
        closeness(Retriever(tmp_path / "words"), "cat", ["cats"])
