import gzip
import json

import pytest

from mretrieve.datasets.qrels import read_qrels
from mretrieve.mine.translated import judgements, kept, versioned, write_qrels, write_records

QRELS = {"q": {"d": 1, "e": 2}}
QUERIES = {"q": {"de": "q@de", "fr": "q@fr"}}
DOCUMENTS = {"d": {"de": "d@de", "fr": "d@fr"}, "e": {"fr": "e@fr"}}


def test_judgements_of_the_same_language():
    rows = list(judgements(QRELS, QUERIES, DOCUMENTS, across=False))
    assert rows == [("q@de", "d@de", 1), ("q@fr", "d@fr", 1), ("q@fr", "e@fr", 2)]


def test_judgements_across_languages():
    rows = set(judgements(QRELS, QUERIES, DOCUMENTS, across=True))
    assert len(rows) == 6
    assert ("q@de", "e@fr", 2) in rows


def test_what_stays_as_it_is_goes_with_every_language():
    rows = list(judgements(QRELS, kept(["q"]), DOCUMENTS, across=False))
    assert rows == [("q", "d@de", 1), ("q", "d@fr", 1), ("q", "e@fr", 2)]
    rows = list(judgements(QRELS, QUERIES, kept(["d"]), across=False))
    assert rows == [("q@de", "d", 1), ("q@fr", "d", 1)]


def test_files(tmp_path):
    assert versioned("d", "de") == "d@de"
    write_qrels(tmp_path / "q.tsv", [("a", "b", 1)])
    assert read_qrels(tmp_path / "q.tsv") == {"a": {"b": 1}}
    write_records(tmp_path / "r.jsonl.gz", [{"_id": "é"}, {"_id": "2"}])
    first = (tmp_path / "r.jsonl.gz").read_bytes()
    assert [json.loads(line) for line in gzip.decompress(first).splitlines()] == [{"_id": "é"}, {"_id": "2"}]
    write_records(tmp_path / "r.jsonl.gz", [{"_id": "é"}, {"_id": "2"}])
    assert (tmp_path / "r.jsonl.gz").read_bytes() == first


def test_a_file_that_fails_is_not_there(tmp_path):
    def broken():
        yield {"_id": "1"}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_records(tmp_path / "r.jsonl", broken())
    assert not list(tmp_path.iterdir())
