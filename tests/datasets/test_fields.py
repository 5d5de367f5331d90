import pytest

from mretrieve.datasets.fields import read_documents, to_query
from mretrieve.datasets.files import BadRecord
from mretrieve.types import Document, Query


def document(record):
    ((_, found),) = read_documents(iter([(7, record)]), "c.jsonl")
    return found


@pytest.mark.parametrize("id_field", ["_id", "id", "docid", "doc_id"])
@pytest.mark.parametrize("text_field", ["text", "contents"])
@pytest.mark.parametrize("lang_field", ["lang", "language"])
def test_fields_go_by_several_names(id_field, text_field, lang_field):
    record = {id_field: "d", text_field: "t", lang_field: "eng_Latn", "title": "T", "url": 3}
    assert document(record) == Document("d", "t", title="T", lang="en", place="c.jsonl:7")


def test_numbers_become_ids_and_missing_values_are_empty():
    assert document({"id": 12, "text": "t", "title": None, "lang": None}) == Document(
        "12", "t", place="c.jsonl:7"
    )
    assert document({"_id": None, "id": 0, "text": "t", "lang": ""}).doc_id == "0"


def test_a_title_may_stand_alone():
    assert document({"_id": "d", "title": "Only this", "text": ""}).title == "Only this"


@pytest.mark.parametrize(
    ("record", "reason", "message"),
    [
        ({"text": "t"}, "missing id", "no id: looked for _id, id, docid, doc_id, but found text"),
        ({"id": "d", "body": "b"}, "missing text", "no text: looked for text, contents, but found id, body"),
        ({}, "missing id", "but found no fields"),
        ({"id": "d", "text": " \n"}, "empty text", "document 'd' has no text"),
        ({"id": "d", "text": "\u3000", "title": " "}, "empty text", "document 'd' has no text"),
        ({"id": " ", "text": "t"}, "missing id", "the field 'id' is empty"),
        (
            {"id": 1.5, "text": "t"},
            "wrong type",
            "the field 'id' is 1.5, but a string or a whole number is needed",
        ),
        ({"id": True, "text": "t"}, "wrong type", "the field 'id' is True"),
        ({"id": "d", "text": ["t"]}, "wrong type", "the field 'text' is ['t'], but a string is needed"),
        ({"id": "d", "text": "t", "title": 5}, "wrong type", "the field 'title' is 5"),
        ({"id": "d", "text": "t", "lang": 5}, "wrong type", "the field 'lang' is 5"),
        ({"id": "d", "text": "t", "lang": "xq"}, "unknown language", "Unknown language 'xq'. Did you mean"),
    ],
)
def test_what_is_wrong_with_a_document(record, reason, message):
    fault = document(record)
    assert isinstance(fault, BadRecord)
    assert fault.reason == reason
    assert message in str(fault)


def test_faults_of_the_file_are_passed_on():
    fault = BadRecord("broken JSON", "broken")
    assert list(read_documents(iter([(1, fault)]), "c")) == [(1, fault)]


def test_queries():
    assert to_query({"_id": 5, "text": "wapi?", "lang": "swh", "squad_id": "x"}) == Query("5", "wapi?", "sw")
    assert to_query({"query_id": "q", "query": "where?"}) == Query("q", "where?")
    with pytest.raises(BadRecord, match="query 'q' has no text"):
        to_query({"qid": "q", "text": "\t "})
    with pytest.raises(BadRecord, match="no text: looked for text, query, question"):
        to_query({"qid": "q", "title": "x"})
