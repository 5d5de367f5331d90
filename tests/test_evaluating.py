"""What the commands of evaluation read, beyond what their own tests show."""

import gzip

import pytest

from mretrieve.datasets.queries import read_queries
from mretrieve.errors import InputError
from mretrieve.evaluating import (
    documents_of,
    measure_bitext,
    read_bitext,
    read_dictionaries,
    read_document_languages,
    read_query_languages,
    read_run_file,
    write_queries,
)
from mretrieve.types import Query
from tests.conftest import write_jsonl


def test_runs_with_duplicates(tmp_path):
    path = tmp_path / "run.trec"
    path.write_text("q Q0 d 1 1.0 t\nq Q0 d 2 2.0 t\np Q0 d 1 1.0 t\n")
    given = read_run_file(path)
    assert (given.run, given.duplicates) == ({"q": {"d": 2.0}, "p": {"d": 1.0}}, 1)


def test_languages_of_queries_are_detected_where_the_file_names_none(tmp_path):
    records = [
        {"_id": "a", "text": "x", "lang": "sw"},
        {"_id": "b", "text": "ما هو النهر"},
        {"_id": "c", "text": "123"},
    ]
    found = read_query_languages(write_jsonl(tmp_path / "queries.jsonl", records))
    assert found == {"a": "sw", "b": "ar", "c": "und"}


def test_languages_of_documents_from_a_collection_and_an_index(collection, small_index):
    wanted = {"cat", "hund", "river", "no-such"}
    expected = {"cat": "en", "hund": "de", "river": "th"}
    assert read_document_languages(str(collection), wanted) == expected
    assert read_document_languages(str(small_index), wanted) == expected


def test_languages_of_documents_are_detected_where_the_data_name_none(tmp_path):
    records = [{"_id": "a", "text": "ينبع النهر من الجبال العالية."}, {"_id": "b", "text": "der Wald"}]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", records)
    assert read_document_languages(str(corpus), {"a"}) == {"a": "ar"}


def test_only_documents_of_judged_queries_are_asked_for():
    run = {"q": {"a": 1.0}, "other": {"b": 1.0}}
    assert documents_of(run, {"q": {"c": 0}}) == {"a", "c"}


def test_queries_are_written_as_they_are_read(tmp_path):
    queries = [Query("a", "मकर", "hi"), Query("b", "x\ty")]
    for name in ("new/queries.jsonl", "queries.jsonl.gz"):
        write_queries(tmp_path / name, queries)
        assert read_queries(tmp_path / name) == queries
    with gzip.open(tmp_path / "queries.jsonl.gz", "rt", encoding="utf-8") as file:
        assert file.readline() == '{"_id": "a", "text": "मकर", "lang": "hi"}\n'


@pytest.fixture
def parallel(tmp_path):
    rows = [{"eng": f"the {b} {n}", "deu": f"das {a} {n}"} for n in range(4) for a, b in WORDS]
    return write_jsonl(tmp_path / "parallel.jsonl", rows)


WORDS = (("haus", "house"), ("schiff", "ship"), ("brot", "bread"))


def test_dictionaries_of_parallel_text_by_language(parallel):
    found = read_dictionaries({"de", "sw"}, into="en", dictionary=None, parallel=parallel)
    assert found == {"de": {**dict(WORDS), "das": "the"}}
    back = read_dictionaries({"en"}, into="de", dictionary=None, parallel=parallel)
    assert back["en"]["house"] == "haus"


def test_dictionaries_that_cannot_be_made(tmp_path, parallel):
    words = tmp_path / "words.tsv"
    words.write_bytes(b"a\tb\n\xff\tc\n")
    for options, sentence in (
        ({"dictionary": None, "parallel": None}, "give --dictionary or --parallel"),
        ({"dictionary": words, "parallel": parallel}, "give --dictionary or --parallel"),
        ({"dictionary": words, "parallel": None}, r"words\.tsv:2: not UTF-8"),
        ({"dictionary": None, "parallel": parallel, "into": "fr"}, "no text in 'fr', which is needed"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_dictionaries({"de"}, **{"into": "en"} | options)
    with pytest.raises(InputError, match=r"none of the queries' languages beside en \(sw\)"):
        read_dictionaries({"sw"}, into="en", dictionary=None, parallel=parallel)


def test_bitext_reads_rows_or_lines(tmp_path, parallel):
    texts = read_bitext(parallel, None, langs=["de"], pivot="en", limit=2)
    assert texts == {"en": ["the house 0", "the ship 0"], "de": ["das haus 0", "das schiff 0"]}
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_bytes(gzip.compress(b"eins\nzwei\n"))
    sides = read_bitext(tmp_path / "a.txt", tmp_path / "b.txt", langs=None, pivot="en", limit=None)
    assert list(sides.values()) == [["one", "two"], ["eins", "zwei"]]
    with pytest.raises(InputError, match="leave it out with two files"):
        read_bitext(tmp_path / "a.txt", tmp_path / "b.txt", langs=["de"], pivot="en", limit=None)


def test_bitext_is_told_of_its_progress(model):
    seen = []
    texts = {"en": ["the cat", "a dog", "trees"], "de": ["the cat", "a dog", "trees"]}
    [pair] = measure_bitext(str(model), texts, pivot="en", on_progress=lambda *one: seen.append(one))
    assert (pair.first, pair.second, pair.result.accuracy) == ("de", "en", 1.0)
    assert seen[-1] == ("sentences", 6, 6)
    with pytest.raises(InputError, match="two languages or more"):
        measure_bitext(str(model), {"en": ["a", "b"]}, pivot="en")
