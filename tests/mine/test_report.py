import pytest

from mretrieve.mine.candidates import Candidates, Dropped, Triple
from mretrieve.mine.report import SAMPLES, MiningReport
from mretrieve.types import Query
from tests.mine.conftest import candidate


def chunk(numbers, lang="en"):
    """Two candidates for each query: one dropped, one kept."""
    sifted, triples = [], []
    for n in numbers:
        query = Query(f"q{n}", f"question {n}", lang)
        positive = candidate("p", score=0.8, rank=1 if n % 2 else 0)
        kept = candidate(f"k{n}", "de", score=0.5, rank=2)
        gone = candidate(f"g{n}", score=0.79, rank=3)
        dropped = (Dropped(gone, "scored too near the positive"),)
        sifted.append(Candidates(query, (kept,), positive, dropped))
        triples.append(Triple(query, positive, (kept,)))
    return sifted, triples


def test_counts_by_language_of_the_query():
    report = MiningReport({})
    report.add(*chunk(range(4)), per_query=2)
    report.add(*chunk(range(4, 6), lang="de"), per_query=1)
    english = report.to_dict()["languages"]["en"]
    assert english["queries"] == english["pairs"] == english["triples"] == english["left"] == 4
    assert english["candidates"] == 10  # two each, and two of the positives
    assert english["scored too near the positive"] == 4
    assert english["positives found"] == english["positives found first"] == 2
    assert english["triples with fewer negatives"] == 4
    assert english["negatives in the query's language"] == 0
    assert english["mean positive score"] == pytest.approx(0.8)
    assert english["mean negative score"] == pytest.approx(0.5)
    assert report.counts["de"]["negatives in the query's language"] == 2
    assert report.total["queries"] == 6


def test_pairs_without_negatives():
    report = MiningReport({})
    report.add([Candidates(Query("q", "x"), (), candidate("p"))], [], per_query=1)
    assert report.total["pairs without negatives"] == 1
    assert report.to_dict()["languages"][""]["mean positive score"] == 0.0


def test_samples_are_few_and_not_the_first():
    report = MiningReport({})
    report.add(*chunk(range(100)), per_query=1)
    kinds = report.to_dict()["samples"]
    assert set(kinds) == {"scored too near the positive", "kept as negatives", "positive not found"}
    assert {len(samples) for samples in kinds.values()} == {SAMPLES}
    names = [sample["query_id"] for sample in kinds["kept as negatives"]]
    assert names != [f"q{n}" for n in range(SAMPLES)]
    assert kinds["kept as negatives"][0]["candidates"][0]["score"] == 0.5


def test_a_report_goes_on_as_if_it_had_not_stopped():
    whole, first = MiningReport({"a": 1}), MiningReport({"a": 1})
    whole.add(*chunk(range(30)), per_query=2)
    whole.add(*chunk(range(30, 60)), per_query=2)
    first.add(*chunk(range(30)), per_query=2)
    second = MiningReport({"a": 1})
    second.restore(first.state())
    second.add(*chunk(range(30, 60)), per_query=2)
    assert second.to_json() == whole.to_json()


def test_long_texts_are_cut():
    report = MiningReport({})
    positive = candidate("p", text="word " * 200)
    report.add([], [Triple(Query("q", "x"), positive, ())], per_query=1)
    [sample] = report.samples["kept as negatives"]
    assert sample["positive"]["text"].endswith("word …")
    assert len(sample["positive"]["text"]) < 310
