"""Answers that are found without marks, in passages whose embeddings are made by hand."""

import numpy as np
import pytest

from mretrieve.datasets.heldout import held_out_mlqa
from mretrieve.train.answers import (
    Answer,
    Passage,
    all_pairs,
    cut_passage,
    find_answers,
    gather,
    group_names,
    hard_negatives,
    held_out_sentences,
)
from mretrieve.types import Document, Query

LONG = " and so on and so forth"  # sentences have to be of some length


def embed(role, texts):
    """Texts that share a word of capital letters are near, whatever their language."""
    words = ["NILE", "ROME", "SNOW"]
    vectors = np.array([[0.3 + (word in text) for word in words] for text in texts], np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def row(anchor_id, language, text, doc_id, source="s"):
    return {
        "anchor_id": anchor_id,
        "language": language,
        "anchor": text,
        "positive_id": doc_id,
        "source": source,
    }


DOCUMENTS = {
    "s": {
        "d-en": Document("d-en", f"The NILE is long{LONG}.\nROME is old{LONG}.", "A title", "en"),
        "d-de": Document("d-de", f"In ROME scheint Sonne{LONG}.\nDer NILE ist lang{LONG}.", lang="de"),
        "d-fr": Document("d-fr", f"La SNOW est froide{LONG}.\nLa SNOW est blanche{LONG}.", lang="fr"),
    }
}
ROWS = [
    row("en-1", "en", "how long is the NILE", "d-en"),
    row("en-1", "en", "how long is the NILE", "d-de"),
    row("de-1", "de", "wie lang ist der NILE", "d-de"),
    row("de-1", "de", "wie lang ist der NILE", "d-fr"),
]


def test_a_passage_is_cut_without_its_title_and_without_scraps():
    passage = cut_passage(Document("d", f"See.\nOne sentence{LONG}.\nOne sentence{LONG}.", "Title", "en"))
    assert passage == Passage("d", "en", (f"One sentence{LONG}.",))
    assert cut_passage(Document("d", "Too short.", lang="en")) is None


def test_parallel_questions_are_one():
    (asked,) = gather(ROWS, DOCUMENTS)
    assert [query.query_id for query in asked.questions] == ["en-1", "de-1"]
    assert [passage.doc_id for passage in asked.passages] == ["d-en", "d-de", "d-fr"]
    pivot = [row("afriqa-sw-2", "sw", "a", "d-en"), row("afriqa-sw-2-pivot", "en", "b", "d-en")]
    assert [len(one.questions) for one in gather(pivot, DOCUMENTS)] == [2]
    assert len(gather(pivot, DOCUMENTS, same=r"^(.+)$")) == 2


def test_the_answers_are_those_that_say_the_same_and_lead():
    asked = gather(ROWS, DOCUMENTS)
    (answers,) = find_answers(asked, embed, margin=0.05)
    assert [answer.name for answer in answers] == ["d-en-s0", "d-de-s1"], "the French passage has none"
    assert len(find_answers(asked, embed, margin=0.0)[0]) == 3
    assert find_answers(asked, embed, margin=5.0) == [[]]
    assert [len(one) for one in (list(all_pairs(answers)), answers[0].others)] == [2, 1]


def answer(doc_id, language, sentences, at):
    others = tuple(number for number in range(len(sentences)) if number != at)
    return Answer(Passage(doc_id, language, tuple(sentences)), at, 1.0, others)


def test_negatives_are_of_the_questions_language_and_of_the_answers_in_turns():
    english, german = answer("a", "en", ["x", "right", "y"], 1), answer("b", "de", ["u", "v", "recht"], 2)
    query = Query("q", "?", "en")
    found = hard_negatives(query, german, [english, german])
    assert found == [("x", "en"), ("u", "de"), ("y", "en"), ("v", "de")]
    assert hard_negatives(query, english, [english, german]) == [("x", "en"), ("y", "en")]
    assert hard_negatives(Query("q", "?", "sw"), german, [german]) == [("u", "de"), ("v", "de")]


def test_questions_with_a_common_answer_are_one_group():
    first, second = gather(ROWS, DOCUMENTS)[0], gather([row("en-2", "en", "NILE?", "d-en")], DOCUMENTS)[0]
    third = gather([row("en-3", "en", "ROME?", "d-en")], DOCUMENTS)[0]
    asked = [first, second, third]
    names = group_names(asked, find_answers(asked, embed, margin=0.05))
    assert names[0] == names[1] != names[2]


def test_the_pool_is_of_groups_that_are_not_trained_on(root):
    folder = root / "train" / "multi-mlqa"
    draw = np.random.default_rng(0)
    known = {}

    def by_chance(role, texts):
        for text in texts:
            known.setdefault(text, draw.normal(size=16).astype(np.float32))
        vectors = np.stack([known[text] for text in texts])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    hidden, questions = held_out_mlqa(folder)
    pool = held_out_sentences(folder, by_chance, groups=99, margin=0.0)
    assert {document.doc_id.rpartition("-s")[0] for document in pool.documents} == hidden
    assert {query.query_id for query in pool.queries} <= questions
    assert {query.query_id for query in pool.queries} == pool.qrels.keys()
    assert all(len(right) == 4 for right in pool.qrels.values()), "one sentence in each language"
    fewer = held_out_sentences(folder, by_chance, groups=2, margin=0.0)
    assert len(fewer.documents) == pytest.approx(2 * 4 * 2)
