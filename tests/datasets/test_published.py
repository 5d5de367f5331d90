import pytest

from mretrieve.datasets.catalogue import benchmarks
from mretrieve.datasets.published import counterpart, published
from mretrieve.evaluate.measures import parse_measures

SETS = [("miracl", "dev"), ("mrtydi", "test")]


@pytest.mark.parametrize(("key", "split"), SETS)
def test_every_score_is_of_a_known_measure_and_language(key, split):
    benchmark = benchmarks()[key]
    for system in published(key, split):
        assert system.source and system.name
        assert system.retriever in ("bm25", "dense", "hybrid")
        for measure, scores in system.measures.items():
            assert measure in benchmark.measures and parse_measures([measure])
            assert set(scores) <= set(benchmark.languages)
            assert all(0 < score < 1 for score in scores.values())
        assert system.measures or system.means
        assert set(system.means) <= set(benchmark.measures)
        assert all(0 < mean < 1 for mean in system.means.values())
        for measure in system.means:  # else they would be stated twice
            assert set(system.measures.get(measure, ())) < set(benchmark.languages)


@pytest.mark.parametrize(("key", "split"), SETS)
def test_bm25_mdpr_and_their_hybrid_are_there_in_all_languages_and_measures(key, split):
    benchmark = benchmarks()[key]
    found = {system.id: system for system in published(key, split)}
    for name in ("bm25", "mdpr", "bm25-mdpr"):
        for measure in benchmark.measures:
            assert set(found[name].measures[measure]) == set(benchmark.languages)


# Means that the same publications give, as far as their digits go.
@pytest.mark.parametrize(
    ("key", "split", "name", "measure", "mean"),
    [
        ("miracl", "dev", "me5-large", "nDCG@10", 0.666),
        ("miracl", "dev", "e5-mistral", "nDCG@10", 0.634),
        ("miracl", "dev", "bge-m3", "nDCG@10", 0.692),
        ("miracl", "dev", "mgte", "nDCG@10", 0.621),
        ("miracl", "dev", "bge-gemma2", "nDCG@10", 0.741),
        ("mrtydi", "test", "bm25-tuned", "MRR@100", 0.333),
        ("mrtydi", "test", "bm25-tuned", "R@100", 0.758),
        ("mrtydi", "test", "bm25-mdpr", "R@100", 0.834),
    ],
)
def test_means_are_those_of_the_publications(key, split, name, measure, mean):
    scores = next(one for one in published(key, split) if one.id == name).measures[measure]
    assert sum(scores.values()) / len(scores) == pytest.approx(mean, abs=0.0011)


def test_the_counterpart_of_a_system():
    assert counterpart("miracl", "dev", retriever="bm25")[0].id == "bm25"
    assert counterpart("miracl", "dev", retriever="bm25")[1] is True
    system, same = counterpart("miracl", "dev", retriever="dense", model="BAAI/bge-m3@5617a9f")
    assert (system.id, same) == ("bge-m3", True)
    system, same = counterpart("miracl", "dev", retriever="dense", model="e5-small", lang="ja")
    assert (system.id, same) == ("me5-small", True)
    # Of the same model no score is published in Swahili.
    system, same = counterpart("miracl", "dev", retriever="dense", model="e5-small", lang="sw")
    assert (system.id, same) == ("mdpr", False)
    system, same = counterpart("miracl", "dev", retriever="dense", model="intfloat/multilingual-e5-base")
    assert (system.id, same) == ("mdpr", False)
    system, same = counterpart("mrtydi", "test", retriever="hybrid", model="e5-small")
    assert (system.id, same) == ("bm25-mdpr", False)
    assert counterpart("xquad", "test", retriever="bm25") == (None, False)


def test_scores_are_found_by_measure_and_language():
    bm25 = counterpart("miracl", "dev", retriever="bm25")[0]
    assert bm25.score("nDCG@10", "sw") == 0.3826
    assert bm25.score("nDCG@10", "en") == 0.3506
    assert bm25.score("AP", "sw") is None
