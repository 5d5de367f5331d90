"""Choices of BM25 on small sets, with Lucene."""

import json

import numpy as np
import pytest
from bm25 import (
    Choice,
    available_terms,
    choose_for,
    collection,
    held_out_gain,
    markdown,
    rows_of,
    search,
    values_of,
)
from common import RESULTS

from mretrieve.evaluate.measures import evaluate
from tests.benchmarks.conftest import write_set

# The German analyzer joins what XLM-R's pieces keep apart: Häuser and Haus are one term of it.
DOCUMENTS = [
    ("d0", "Das Haus am See", "de"),
    ("d1", "Die Häuser der Stadt brannten", "de"),
    ("d2", "Ein Boot auf dem Fluss", "de"),
    ("d3", "Viele Boote und Flüsse im Norden", "de"),
]
QUERIES = [("q0", "Häuser am See", "de"), ("q1", "brannten Haus Stadt", "de"), ("q2", "Boote Fluss", "de")]


@pytest.fixture
def one(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    collection.cache_clear()
    pairs = [("q0", "d0"), ("q1", "d1"), ("q2", "d2")]
    write_set(tmp_path / "train" / "de-set", DOCUMENTS, QUERIES, {"dev": pairs})
    return collection(tmp_path / "train" / "de-set", "dev", "de")


def test_both_terms_are_the_sum_of_their_scores(one):
    legs = [search(one, kind, 0.9, 0.4) for kind in ("language", "pieces")]
    assert legs[0] != legs[1]
    sums = {
        query.query_id: {d: sum(leg[n].get(d, 0.0) for leg in legs) for d in {**legs[0][n], **legs[1][n]}}
        for n, query in enumerate(one.queries)
    }
    expected = evaluate(sums, one.qrels, ["nDCG@10"]).per_query
    values = values_of([Choice("language"), Choice("pieces"), Choice("both")], [one, one])
    assert values.shape == (3, 6)
    assert values[2].tolist() == [expected[query.query_id]["nDCG@10"] for query in one.queries] * 2


def test_a_language_gets_its_choices_and_what_they_gain(one):
    found = choose_for([one], [one])
    assert set(found["dev"]) == {"language", "pieces", "both"}
    assert found["terms"] in found["dev"]
    assert found["questions"] == 3
    tests = found["tests"]["de-set dev"]
    assert {name: tests[name] for name in found["dev"]} == found["dev"]
    assert tests["chosen"] == found["dev"][found["terms"]]
    assert tests["chosen, with k1 and b"] == found["dev with k1 and b"]
    difference = found["dev"]["both"] - found["dev"]["language"]
    assert found["both against language"]["difference"] == pytest.approx(difference)


def test_what_is_gained_on_other_questions_only_counts():
    draw = np.random.default_rng(1)
    noise = draw.random((6, 200))
    assert abs(held_out_gain(noise)) < 0.03
    noise[3] += 0.2
    assert held_out_gain(noise) == pytest.approx((noise[3] - noise[0]).mean(), abs=0.03)


def test_languages_without_an_analyzer_have_pieces_only():
    assert available_terms("sw") == ("pieces",)
    assert available_terms("de") == ("language", "pieces", "both")


def test_the_table_has_a_row_a_language_and_their_mean(one):
    found = choose_for([one], [one])
    bare = {**found, "dev": {"pieces": 0.5}, "terms": "pieces", "tests": {}, "both against language": None}
    rows = rows_of({"de": found, "sw": bare})
    assert [row[0] for row in rows] == ["de", "sw", "mean"]
    assert len({len(row) for row in rows}) == 1
    assert rows[0][2:5] == list(found["dev"].values())
    assert rows[0][5] == f"{found['both against language']['p']:.3f}"
    assert rows[1][2:6] == ["", 0.5, "", ""]
    assert rows[2][2:5] == rows[0][2:5], "languages without a choice are not in the mean"
    lines = markdown({"de": found, "sw": bare}).splitlines()
    assert [line.split("|")[1].strip() for line in lines[-3:]] == ["de", "sw", "mean"]
    assert len({line.count("|") for line in lines[-5:]}) == 1


def test_the_published_table_is_that_of_the_published_figures():
    figures = json.loads((RESULTS / "bm25.json").read_text(encoding="utf-8"))
    assert (RESULTS / "bm25.md").read_text(encoding="utf-8") == markdown(figures)
