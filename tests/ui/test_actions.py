import shutil

import pytest
from mretrieve.ui.actions import (
    Wish,
    closest_sentences,
    explanation_to_dict,
    find,
    find_one,
    find_similar,
    hit_to_dict,
    index_facts,
    modes_of,
    route_query,
)
from mretrieve.ui.library import Library

from mretrieve import InputError, Retriever
from mretrieve.indexing import build_index


@pytest.fixture(scope="module")
def library(small_index, words_index, sparse_index):
    return Library([small_index, words_index, sparse_index])


def test_modes_of_indexes(library, collection, tmp_path):
    assert modes_of(library["small"]) == ["hybrid", "dense", "bm25"]
    assert modes_of(library["words"]) == ["bm25"]
    build_index(
        collection, tmp_path / "vectors", lexical=False, model=library["small"].index.manifest.encoder.model
    )
    assert modes_of(Retriever(tmp_path / "vectors")) == ["dense"]


def test_words_are_marked_where_bm25_has_a_say(library):
    question, cards = find(library, "the cats", Wish("small", "hybrid"))
    assert (question.mode, question.lang, question.index) == ("hybrid", "en", "small")
    assert question.seconds > 0
    by_id = {card.found.hit.doc_id: card for card in cards}
    text = by_id["cat"].found.hit.text
    assert [text[start:end] for start, end in by_id["cat"].words] == ["cat"]
    assert not by_id["cat"].wants_sentence
    assert by_id["baum"].words == [] and by_id["baum"].wants_sentence


def test_in_dense_mode_sentences_are_marked(library):
    _, cards = find(library, "the cats", Wish("small", "dense"))
    assert all(card.wants_sentence and not card.words for card in cards)


def test_without_a_model_there_are_no_sentences(library):
    _, cards = find(library, "cat", Wish("words"))
    assert not any(card.wants_sentence for card in cards)
    assert closest_sentences(library, "words", "cat", [0]) == {}


@pytest.mark.parametrize("top_k", [0, -1, 101])
def test_how_many(library, top_k):
    with pytest.raises(InputError, match="from 1 to 100"):
        find(library, "cat", Wish("small", top_k=top_k))


def test_a_mode_that_the_index_lacks(library):
    with pytest.raises(InputError, match="no dense part"):
        find(library, "cat", Wish("words", "hybrid"))


def test_similar(library):
    _, (first, *_) = find(library, "cat mat", Wish("small", "bm25"))
    question, cards = find_similar(library, first.found.row, Wish("small", "bm25"), doc_id="cat")
    assert question.row == first.found.row and question.text.startswith("Cats The cat")
    assert [card.found.hit.doc_id for card in cards] == ["dog"]


def test_a_passage_of_an_index_that_was_replaced(library):
    with pytest.raises(InputError, match="replaced"):
        find_similar(library, 0, Wish("small"), doc_id="another")
    with pytest.raises(InputError, match="replaced"):
        find_similar(library, 99, Wish("small"))


def test_one_hit_among_the_best(library):
    _, cards = find(library, "cat", Wish("small"))
    one = next(card.found for card in cards if card.found.hit.bm25_score is None)
    assert find_one(library, "cat", one.row, Wish("small"), doc_id=one.hit.doc_id) == one
    with pytest.raises(InputError, match="not among the best"):
        find_one(library, "cat", one.row, Wish("small", "bm25"))  # it has no cat


def test_the_closest_of_many_sentences(small_index, model, tmp_path):
    from tests.conftest import write_jsonl

    texts = ["Zz zz zz. The cat sat here. Qq qq.", "One sentence only."]
    records = [{"_id": str(n), "text": text, "lang": "en"} for n, text in enumerate(texts)]
    build_index(write_jsonl(tmp_path / "c.jsonl", records), tmp_path / "one", model=str(model))
    library = Library([tmp_path / "one"])
    found = closest_sentences(library, "one", "The cat sat here.", [0, 1, 0])
    assert set(found) == {0}  # where there is a choice
    text, (start, end) = found[0]
    # The model has no prompts, so the sentence itself is nearest to itself.
    assert text[start:end] == "The cat sat here."


def test_hits_for_json(library):
    _, (card, *_) = find(library, "cat", Wish("small"))
    said = hit_to_dict(card.found)
    assert sum(said["parts"].values()) == pytest.approx(said["score"], abs=1e-5)
    assert said["doc_id"] == card.found.hit.doc_id and said["row"] == card.found.row


def test_explanations_for_json(library):
    _, (card, *_) = find(library, "cats", Wish("small", "bm25"))
    said = explanation_to_dict(library["small"], "cats", card.found)
    assert said["query_terms"] == ["cat"]
    assert [one["term"] for one in said["terms"] if not one["is_piece"]] == ["cat"]
    assert "▁cats" in [one["term"] for one in said["terms"] if one["is_piece"]]
    assert "cat" in said["passage_terms"]


def test_facts_for_json(library):
    said = index_facts(library["small"])
    assert said["documents"] == 6 and "files" not in said


def test_routing(library):
    assert len(route_query(library, "the cab", "sparse").tokens) >= 3
    with pytest.raises(InputError, match="no layers of experts"):
        route_query(library, "the cab", "small")
    with pytest.raises(InputError, match="no dense part"):
        route_query(library, "the cab", "words")


def test_an_index_that_vanished(small_index, tmp_path):
    path = tmp_path / "gone"
    shutil.copytree(small_index, path)
    library = Library([path])
    shutil.rmtree(path)
    with pytest.raises(InputError, match="There is no index"):
        find(library, "cat", Wish("gone"))
