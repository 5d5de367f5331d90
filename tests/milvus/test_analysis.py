import re

import pytest

from mretrieve.milvus.analysis import (
    FIELD_BYTES,
    NO_TERMS,
    analyzer_name,
    cut_to_field,
    document_terms,
    query_terms,
    server_analyzers,
)


def words_of_milvus_lite(text):
    return re.findall(r"\w+", text.lower())


@pytest.mark.parametrize(
    ("lang", "document", "query"),
    [
        ("en", "The runners were running", "a runner"),
        ("hi", "हिन्दी की किताबें", "किताब हिन्दी"),
        ("th", "แม่น้ำไหลลงมาจากภูเขาสูง", "แม่น้ำ"),
        ("sw", "Mto unatiririka kutoka mlimani", "mto"),
        ("zh", "河流从高山流下", "高山"),
    ],
)
def test_terms_of_ours_stay_whole_in_milvus_lite(lang, document, query):
    terms = document_terms(document, lang, "client")
    assert words_of_milvus_lite(terms) == terms.split()
    asked = query_terms(query, lang, "client").split()
    assert asked and set(asked) & set(terms.split())


def test_terms_are_those_of_our_own_analyzers():
    assert document_terms("The runners were running", "en", "client") == "runner were run"


def test_a_server_gets_the_text_itself():
    assert document_terms("The runners", "en", "server") == query_terms("The runners", "en", "server")


def test_a_document_without_terms_has_one_that_no_query_has():
    assert document_terms("?!", "en", "client") == NO_TERMS
    assert query_terms("?!", "en", "client") == ""
    assert query_terms(NO_TERMS, "en", "client") != NO_TERMS


def test_long_texts_are_cut_between_words():
    text = "wörter " * 20_000
    cut = cut_to_field(text)
    assert FIELD_BYTES - 8 <= len(cut.encode()) <= FIELD_BYTES and cut.endswith("wörter")
    assert len(cut_to_field("ö" * FIELD_BYTES).encode()) == FIELD_BYTES - 1
    assert cut_to_field("short") == "short"


def test_each_analyzer_of_a_server_is_named_by_some_language():
    analyzers = server_analyzers()["analyzers"]
    assert {analyzer_name(lang) for lang in [*analyzers, "sw", "", "th"]} == set(analyzers)
    assert analyzers["de"]["filter"][1] == {"type": "stemmer", "language": "german"}
