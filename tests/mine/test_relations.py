import pytest

from mretrieve.errors import InputError
from mretrieve.mine.relations import Relations, holds_answer, read_answers, read_groups
from mretrieve.types import Document, Query
from tests.conftest import write_jsonl

QUERIES = [
    Query("a", "Who built it?"),
    Query("b", "who built it"),
    Query("c", "Wer baute es?"),
    Query("d", "Who paid for it?"),
]
QRELS = {"a": {"a1": 1, "no": 0}, "b": {"b1": 2}, "c": {"c1": 1}, "d": {"d1": 1}}


def reasons(relations, query_id, *documents):
    known = relations.known(query_id)
    return [
        relations.reason(known, one if isinstance(one, Document) else Document(one, "some text"))
        for one in documents
    ]


def test_judged_documents_and_those_of_the_same_question():
    relations = Relations(QUERIES, QRELS)
    assert reasons(relations, "a", "a1", "b1", "c1", "no") == [
        "judged relevant",
        "relevant to the same question",
        None,
        None,
    ]
    assert relations.known("a").judged == {"no"}


def test_parallel_questions_share_their_answers_and_parallel_documents_are_answers():
    groups = {"a": "built", "c": "built", "a1": "page", "x1": "page", "y1": "other"}
    relations = Relations(QUERIES, QRELS, groups=groups)
    assert reasons(relations, "a", "c1", "x1", "y1") == [
        "relevant to the same question",
        "parallel to a positive",
        None,
    ]
    assert reasons(relations, "d", "a1", "x1") == [None, None]


def test_documents_parallel_to_those_of_the_same_question():
    relations = Relations(QUERIES, QRELS, groups={"b1": "page", "x1": "page"})
    assert reasons(relations, "a", "x1") == ["parallel to a positive"]


def test_documents_with_the_same_answer():
    relations = Relations(QUERIES, QRELS, answers={"a": ["James Watt"], "d": ["james watt"]})
    holding = Document("z", "It was James  Watt, they say.")
    assert reasons(relations, "a", "d1", holding, "c1") == [
        "relevant to the same answer",
        "holds the answer",
        None,
    ]


def test_what_a_person_judged_is_kept_although_it_holds_the_answer():
    relations = Relations(QUERIES, QRELS, answers={"a": ["James Watt"]})
    assert reasons(relations, "a", Document("no", "James Watt did not build it.")) == [None]


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("Rome fell.", "Rome", True),
        ("An aerometer fell.", "Rome", False),
        ("In 1945, it ended", "1945", True),
        ("長い歴史がある東京の街", "東京", True),
        ("长城", "东京", False),
    ],
)
def test_answers_are_whole_words_where_there_are_words(text, answer, expected):
    assert holds_answer(text, [answer]) is expected


def test_short_answers_are_not_looked_for():
    relations = Relations(QUERIES, QRELS, answers={"a": ["no", "?"]})
    assert relations.known("a").answers == ()


def test_groups_of_a_file(tmp_path):
    path = tmp_path / "groups.tsv"
    path.write_text("one\ta\none\tb\n\ntwo\tc\n", "utf-8")
    assert read_groups(path) == {"a": "one", "b": "one", "c": "two"}


def test_groups_of_a_folder_of_translations(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": "d@de", "text": "x", "source_id": "d"}])
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": "q", "text": "x"}])
    assert read_groups(tmp_path) == {"d": "d", "d@de": "d"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one a\n", "groups.tsv:1: a line of parallel groups is `group<tab>id`"),
        (b"one\ta\ntwo\ta\n", "groups.tsv:2: 'a' is in group 'two', but further up in 'one'"),
        (b"\n", "holds no groups"),
        (b"\xff\t1\n", "groups.tsv:1: not UTF-8"),
    ],
)
def test_broken_groups(tmp_path, content, message):
    path = tmp_path / "groups.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_groups(path)


def test_a_folder_that_is_no_translation(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": "d", "text": "x"}])
    with pytest.raises(InputError, match="no `source_id`"):
        read_groups(tmp_path)


def test_answers_of_queries(tmp_path):
    records = [
        {"_id": "a", "text": "x", "answers": ["one", " ", 2]},
        {"_id": "b", "text": "x", "answer": "two"},
        {"_id": "c", "text": "x"},
    ]
    write_jsonl(tmp_path / "queries.jsonl", records)
    assert read_answers(tmp_path) == {"a": ("one",), "b": ("two",)}
    assert read_answers(tmp_path / "nothing") == {}
