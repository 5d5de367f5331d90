import json
import sys

import pytest

from mretrieve.datasets.dedup import Dedup, distinct
from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.indexing import build_index
from tests.conftest import write_jsonl

LONG = "The river rises in the mountains and flows through three countries before it meets the sea"
ARABIC = "ينبع النهر من الجبال العالية ويمر عبر ثلاث دول قبل أن يصب في البحر الأبيض المتوسط"
RECORDS = [
    {"_id": "a", "text": f"{LONG}.", "lang": "en"},
    {"_id": "same", "text": f"  {LONG}.\n", "lang": "en"},
    {"_id": "loud", "text": f"{LONG.upper()}!", "lang": "en"},
    {"_id": "longer", "text": f"{LONG} in the north.", "lang": "en"},
    {"_id": "titled", "title": "Rivers of the northern half of the world", "text": f"{LONG}.", "lang": "en"},
    {"_id": "other", "text": f"{LONG}.", "lang": "de"},
    {"_id": "نهر", "text": ARABIC, "lang": "ar"},
    {"_id": "نهر٢", "text": ARABIC + " شمالا", "lang": "ar"},
    {"_id": "signs", "text": "?!", "lang": "en"},
    {"_id": "signs2", "text": "!?", "lang": "en"},
]


@pytest.fixture
def source(tmp_path):
    return open_source(write_jsonl(tmp_path / "corpus.jsonl", RECORDS))


def left_out(source, how, tmp_path):
    report = tmp_path / "report.jsonl"
    one = distinct(source, how, report=report, work=tmp_path)
    kept = [document.doc_id for document in one.documents()]
    dropped = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    return kept, dropped, one


def test_exact_leaves_out_the_same_text_of_the_same_language(source, tmp_path):
    kept, dropped, one = left_out(source, "exact", tmp_path)
    assert kept == ["a", "loud", "longer", "titled", "other", "نهر", "نهر٢", "signs", "signs2"]
    assert dropped == [
        {"doc_id": "same", "duplicate_of": "a", "similarity": 1.0, "place": "corpus.jsonl:2"},
    ]
    assert str(one.dropped) == "1 of 10 documents are duplicates; first: same = a"


def test_near_leaves_out_what_says_nearly_the_same(source, tmp_path):
    kept, dropped, _ = left_out(source, "near", tmp_path)
    assert kept == ["a", "titled", "other", "نهر", "signs", "signs2"]
    assert {one["doc_id"]: one["duplicate_of"] for one in dropped} == {
        "same": "a",
        "loud": "a",
        "longer": "a",
        "نهر٢": "نهر",
    }
    by_id = {one["doc_id"]: one["similarity"] for one in dropped}
    assert by_id["loud"] == 1.0 and 0.8 <= by_id["longer"] < 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "report.jsonl"]


def test_a_higher_threshold_keeps_more(source, tmp_path):
    kept, _, _ = left_out(source, "near:0.99", tmp_path)
    assert "longer" in kept and "loud" not in kept


def test_reading_again_gives_the_same(source):
    one = distinct(source, "near")
    assert list(one.documents()) == list(one.documents())
    assert one.dropped.documents == 10


def test_broken_records_are_passed_over_as_ever(tmp_path):
    path = write_jsonl(tmp_path / "corpus.jsonl", [RECORDS[0], {"_id": "", "text": "x"}, RECORDS[1]])
    with pytest.raises(InputError, match=r"corpus\.jsonl:2"):
        list(distinct(open_source(path)).documents())
    one = distinct(open_source(path, on_error="skip"))
    assert [document.doc_id for document in one.documents()] == ["a"]
    assert one.skipped.total == 1


def test_a_reading_that_is_broken_off_leaves_no_report(source, tmp_path):
    report = tmp_path / "report.jsonl"
    reading = distinct(source, report=report, work=tmp_path).documents()
    next(reading)
    reading.close()
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_a_source_that_changes_meanwhile_is_an_error(source, tmp_path):
    reading = distinct(source).documents()
    with (tmp_path / "corpus.jsonl").open("a", encoding="utf-8") as file:
        next(reading)
        file.write(json.dumps({"_id": "new", "text": "Nobody counted it."}) + "\n")
    with pytest.raises(InputError, match="was changed while it was read"):
        list(reading)


@pytest.mark.parametrize("text", ["", "fuzzy", "near:2", "near:x", "exact:0.9", "near:0.2"])
def test_unknown_ways_are_refused(text):
    with pytest.raises(InputError, match=r"Choose from: exact, near"):
        Dedup.parse(text)


def test_the_fingerprint_tells_the_ways_apart(source):
    ways = [source, *(distinct(source, way) for way in ("exact", "near", "near:0.9"))]
    assert len({one.fingerprint() for one in ways}) == 4
    assert distinct(source, "near").fingerprint() == distinct(source, "near:0.8").fingerprint()


def test_without_datasketch_exact_still_works(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    assert len(list(distinct(source, "exact").documents())) == 9
    with pytest.raises(MissingDependencyError, match=r"pip install 'mretrieve\[dedup\]'"):
        distinct(source, "near")


def test_an_index_holds_what_stays(source, model, tmp_path):
    one = distinct(source, "near", report=tmp_path / "index.dropped.jsonl")
    built = build_index(one, tmp_path / "index", lexical=False, model=str(model))
    assert built.manifest.documents == 6
    assert one.dropped.copies == 4
    told = []
    again = distinct(source, "exact", on_progress=lambda *what: told.append(what))
    assert len(list(again.documents())) == 9
    assert told == [("compare", 10, 10)]
