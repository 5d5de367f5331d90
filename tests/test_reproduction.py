import json

import pytest

from mretrieve.reproduction import Reproduction, Score, Settings, verdict


@pytest.mark.parametrize(
    ("measured", "published", "same", "complete", "word"),
    [
        (0.3826, 0.3826, True, True, "reproduced"),
        (0.3830, 0.3826, True, True, "reproduced"),
        (0.3835, 0.3826, True, True, "close"),
        (0.3727, 0.3826, True, True, "close"),
        (0.3725, 0.3826, True, True, "differs"),
        (0.4826, 0.3826, False, True, "better"),
        (0.2826, 0.3826, False, True, "worse"),
        (0.3829, 0.3826, False, True, "equal"),
        (0.3826, 0.3826, True, False, "not comparable"),
        (0.3826, None, True, True, "nothing published"),
    ],
)
def test_what_a_difference_means(measured, published, same, complete, word):
    assert verdict(measured, published, same=same, complete=complete) == word


def result(**more):
    values = {
        "address": "miracl/sw",
        "split": "dev",
        "retriever": "bm25",
        "model": "",
        "topics": 482,
        "passages": 131_924,
        "official_passages": 131_924,
        "compared_with": "BM25",
        "source": "there",
        "scores": (Score("nDCG@10", 0.4, 0.3826, "better"), Score("R@100", 0.7, None, "nothing published")),
        "run": "x.trec",
    }
    return Reproduction(**{**values, **more})


def test_results_are_kept_as_json():
    values = json.loads(json.dumps(result().to_dict()))
    assert values["scores"][0]["difference"] == pytest.approx(0.0174)
    assert values["scores"][1]["difference"] is None
    assert Reproduction.from_dict({**values, "key": "k"}) == result()


def test_a_smaller_collection_is_not_complete():
    assert result().complete and result(official_passages=None).complete
    assert not result(passages=357).complete


def test_files_are_named_after_the_settings():
    assert Settings().label == "bm25"
    assert Settings("dense", "BAAI/bge-m3@5617").label == "dense.bge-m3-5617"
    assert Settings("hybrid", "e5-small", fusion="rrf:60").label == "hybrid.e5-small.rrf-60"
