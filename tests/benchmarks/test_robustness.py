"""Drops of variants, on a small index and a bag of words for a model."""

import pytest
from robustness import KINDS, learn_dictionaries, measure, print_report

from mretrieve.indexing import build_index
from mretrieve.rank.retriever import Retriever
from mretrieve.types import Query
from tests.conftest import write_jsonl

WORDS = ("fluss", "berg", "stadt", "brot", "milch", "hund")


@pytest.fixture
def retriever(tmp_path):
    records = [{"_id": f"d{n}", "text": f"{word} seite {n}", "lang": "de"} for n, word in enumerate(WORDS)]
    build_index(write_jsonl(tmp_path / "corpus.jsonl", records), tmp_path / "index", dense=False)
    return Retriever(tmp_path / "index")


def test_each_variant_is_measured_by_each_leg(retriever, store, capsys):
    queries = [Query(f"q{n}", word, "de") for n, word in enumerate(WORDS)]
    qrels = {f"q{n}": {f"d{n}": 1} for n in range(len(WORDS))}
    dictionaries = {"de": {word: f"english{n}" for n, word in enumerate(WORDS)}}
    found = measure(retriever, store(), queries, qrels, dictionaries)
    assert list(found) == ["as asked", *KINDS]
    assert found["as asked"] == {"bm25": 1.0, "dense": 1.0, "hybrid": 1.0}
    assert found["romanise"] == found["as asked"]  # is in Latin letters already
    assert found["code-mix"]["bm25"] < 1.0
    print_report({"de": found})
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("| mean | 1.0000 | 1.0000 | 1.0000 |")
    assert len(lines) == 4


def test_dictionaries_go_into_english_and_from_it_into_spanish(tmp_path):
    rows = [{"eng": f"river {n}", "spa": f"río {n}", "deu": f"fluss {n}"} for n in range(5)]
    found = learn_dictionaries(write_jsonl(tmp_path / "parallel.jsonl", rows), ["de", "en"])
    assert (found["de"]["fluss"], found["en"]["river"]) == ("river", "río")
