"""The sample that ships with the package: what it holds, and that its script makes it again."""

import csv
import gzip
import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "mretrieve" / "datasets" / "sample"
XQUAD = ROOT.parent / "shared" / "data" / "xquad"
LANGUAGES = ["ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"]


def records(name):
    with gzip.open(SAMPLE / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def judgements(split):
    with (SAMPLE / "qrels" / f"{split}.tsv").open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines, delimiter="\t")
    assert header == ["query-id", "corpus-id", "score"]
    assert {score for _, _, score in rows} == {"1"}
    return [(query_id, doc_id) for query_id, doc_id, _ in rows]


@pytest.fixture(scope="module")
def corpus():
    return {record["_id"]: record for record in records("corpus.jsonl.gz")}


@pytest.fixture(scope="module")
def queries():
    return {record["_id"]: record for record in records("queries.jsonl.gz")}


def test_it_has_25_passages_in_each_of_twelve_languages(corpus):
    assert len(corpus) == 300
    assert Counter(record["lang"] for record in corpus.values()) == dict.fromkeys(LANGUAGES, 25)
    assert all(doc_id.startswith(record["lang"] + "-p") for doc_id, record in corpus.items())


def test_first_and_last_passages(corpus):
    passages = list(corpus.values())
    assert passages[0]["_id"] == "ar-p060"
    assert passages[0]["text"].startswith("تم اكتشاف الأكسجين بشكل مستقل")
    assert passages[-1]["_id"] == "zh-p204"
    assert passages[-1]["text"].startswith("特别的是，当一个数字乘以p时")


def test_passages_in_unspaced_and_right_to_left_scripts(corpus):
    assert corpus["th-p100"]["text"].startswith("ความรู้ทางการแพทย์")  # XQuAD has a byte order mark before it
    assert corpus["ar-p075"]["text"].startswith("بدأت المعاهدات")


def test_no_passage_is_empty_or_gives_a_title_away(corpus):
    assert {record["title"] for record in corpus.values()} == {""}
    assert all(len(record["text"]) > 50 for record in corpus.values())
    assert not any("\ufeff" in record["text"] for record in corpus.values())


def test_most_paragraphs_stand_in_one_language_only(corpus):
    languages = Counter(doc_id.rpartition("-p")[2] for doc_id in corpus)
    assert Counter(languages.values()) == {1: 180, 2: 60}


def test_queries(queries):
    assert len(queries) == 3259
    assert sorted({record["lang"] for record in queries.values()}) == LANGUAGES
    assert queries["ar-q0000"]["text"] == "كم نقطة تخلى عنها دفاع البانثرز؟"
    assert list(queries)[-1] == "zh-q1186"


@pytest.mark.parametrize(("split", "count"), [("test", 1544), ("cross", 2171)])
def test_every_judged_id_exists(split, count, corpus, queries):
    pairs = judgements(split)
    assert len(set(pairs)) == len(pairs) == count
    assert {query_id for query_id, _ in pairs} <= queries.keys()
    assert {doc_id for _, doc_id in pairs} <= corpus.keys()


def test_every_query_is_judged_in_one_split(queries):
    own = {query_id for query_id, _ in judgements("test")}
    cross = {query_id for query_id, _ in judgements("cross")}
    assert own | cross == queries.keys()
    assert not own & cross


def test_splits_differ_in_language(corpus, queries):
    for query_id, doc_id in judgements("test"):
        assert queries[query_id]["lang"] == corpus[doc_id]["lang"]
    for query_id, doc_id in judgements("cross"):
        asked_in = queries[query_id]["lang"]
        assert asked_in != corpus[doc_id]["lang"]
        assert f"{asked_in}-p{doc_id.rpartition('-p')[2]}" not in corpus


def test_every_passage_is_asked_for_in_its_own_language_and_in_english(corpus, queries):
    assert {doc_id for _, doc_id in judgements("test")} == corpus.keys()
    english = {doc_id for query_id, doc_id in judgements("cross") if queries[query_id]["lang"] == "en"}
    in_english = {doc_id.rpartition("-p")[2] for doc_id in corpus if doc_id.startswith("en-")}
    assert english == {doc_id for doc_id in corpus if doc_id.rpartition("-p")[2] not in in_english}


def test_licence_and_attribution_are_in_place():
    licence = (SAMPLE / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("Attribution-ShareAlike 4.0 International")
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for credited in (
        "Artetxe",
        "Ruder",
        "Yogatama",
        "Rajpurkar",
        "Wikipedia",
        "creativecommons.org/licenses/by-sa/4.0",
    ):
        assert credited in readme


def test_it_stays_small():
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 400_000


@pytest.mark.skipif(not XQUAD.exists(), reason="../shared/data is not here")
def test_the_script_makes_the_same_files_again(tmp_path):
    spec = importlib.util.spec_from_file_location("make_sample", ROOT / "benchmarks" / "make_sample.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.make_sample(XQUAD, tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert [str(path) for path in made] == [
        "corpus.jsonl.gz",
        "qrels/cross.tsv",
        "qrels/test.tsv",
        "queries.jsonl.gz",
    ]
    for path in made:
        assert (tmp_path / path).read_bytes() == (SAMPLE / path).read_bytes(), path
