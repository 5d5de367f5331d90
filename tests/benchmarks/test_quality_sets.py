"""What each evaluation and tuning set asks and counts, on a few words whose scores are arithmetic."""

from pathlib import Path

import numpy as np
import pytest
from quality_sets import (
    HELD_OUT,
    SETS,
    Scores,
    every_passage,
    join,
    mlqa_cross,
    pooled,
    tydi,
    xquad,
    xquad_cross,
    xquad_r,
)
from quality_tuning import DEV_SETS, TUNING_SETS, dev_sets, mlqa_pool, mlqa_sentences
from quality_tuning import LANGUAGES as TUNED

from mretrieve.datasets.heldout import is_held_out_language, read_held_out_languages

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
NO_LANGUAGE = {f"in-{lang}": 0.0 for lang in LANGUAGES}  # a model that sees the topic only
MUCH_LANGUAGE = {
    f"in-{lang}": 1.5 for lang in LANGUAGES
}  # and one to which it matters less than the language


def test_scores_are_means_of_parts_or_of_questions():
    scores = Scores(np.array([1.0, 1.0, 1.0, 0.0]), ["en", "en", "en", "sw"], ["1", "2", "3", "1"])
    assert scores.means() == {"en": 1.0, "sw": 0.0}
    assert scores.score == 0.5
    assert Scores(scores.values, scores.parts, scores.clusters, by_part=False).score == 0.75
    both = join([{"nDCG@10": scores}, {"nDCG@10": scores}])["nDCG@10"]
    assert both.values.tolist() == [1, 1, 1, 0, 1, 1, 1, 0]
    assert len(both.parts) == len(both.clusters) == 8


def test_a_model_without_language_bias_finds_all_translations(tiny_data, store):
    measured = xquad_r(tiny_data, store(**NO_LANGUAGE))
    assert measured["mAP"].score == pytest.approx(1.0)
    # All eleven translations score the same; trec_eval puts the last id first, which is Chinese.
    assert measured["own language first"].score == pytest.approx(1 / 11)


def test_a_model_with_language_bias_finds_its_own_language(tiny_data, store):
    measured = xquad_r(tiny_data, store(**MUCH_LANGUAGE))
    assert measured["own language first"].score == 1.0
    # First the right one, then five others of its language; the ten translations follow at ranks 7 to 16.
    expected = (1 + sum((n + 1) / (n + 6) for n in range(1, 11))) / 11
    assert measured["mAP"].score == pytest.approx(expected)
    assert set(measured["mAP"].clusters) == {f"q{n:04}" for n in range(6)}
    assert len(measured["mAP"].values) == 66


def test_xquad_within_and_across_languages(tiny_data, store):
    within, across = (one(tiny_data, store(**NO_LANGUAGE))["nDCG@10"] for one in (xquad, xquad_cross))
    assert within.score == across.score == pytest.approx(1.0)
    assert len(within.means()) == 12
    assert len(across.means()) == 132
    assert len(set(across.clusters)) == 6
    # A model that only knows the language of English questions is lost where the paragraphs are German.
    lost = xquad_cross(tiny_data, store(**{f"topic{n}": 0.0 for n in range(6)}))["nDCG@10"]
    assert lost.means()["en-de"] < 0.7


def test_tydi_has_five_pools(tiny_data, store):
    scores = tydi(tiny_data, store())["nDCG@10"]
    assert scores.means() == {lang: 1.0 for lang in ("ar", "en", "id", "ko", "sw")}


def test_all_passages_that_answer_are_right_in_the_pool(tiny_data, store):
    biased = pooled(tiny_data, store(**{"in-de": 3.0, "in-es": 3.0}))
    assert biased["nDCG@10, own"].score == pytest.approx(1.0)
    assert biased["nDCG@10"].means()["mlqa de"] < 1.0 == biased["nDCG@10"].means()["tydi sw"]
    assert biased["R@100"].score == pytest.approx(1.0)
    fair = pooled(tiny_data, store(**{"in-de": 0.5, "in-es": 0.5}))
    assert fair["nDCG@10"].score == pytest.approx(1.0)
    assert set(fair["nDCG@10"].means()) == {
        *(f"tydi {x}" for x in "ar en id ko sw".split()),
        "mlqa de",
        "mlqa es",
    }


def test_questions_on_one_mlqa_group_go_together(tiny_data, store):
    scores = mlqa_cross(tiny_data, store())["nDCG@10"]
    assert len(scores.values) == 80
    assert len(set(scores.clusters)) == 40


def test_the_own_answer_is_in_the_way_of_a_cross_lingual_one(tiny_data, store):
    measured = mlqa_cross(tiny_data, store(**{"in-de": 0.5, "in-es": 0.5}))
    assert measured["nDCG@10"].score == pytest.approx(1 / np.log2(3))  # always second
    assert measured["nDCG@10, own aside"].score == pytest.approx(1.0)


def test_every_passage_is_there_once(tiny_data):
    ids = [document.doc_id for document in every_passage(tiny_data)]
    assert len(ids) == len(set(ids)) == 12 * 6 + 15 + 80 + 80 + 20 + 80 * len(DEV_SETS)


@pytest.mark.parametrize(
    "name", sorted((SETS | TUNING_SETS).keys() - {"xquad-r", "xquad-cross", "mlqa-xling"})
)
def test_the_right_words_are_found(tiny_data, store, name, monkeypatch, tmp_path):
    monkeypatch.setattr("vectors.cache_folder", lambda: tmp_path)  # of the teacher that finds sentences
    measured = (SETS | TUNING_SETS)[name](tiny_data, store(**{"in-de": 0.5, "in-es": 0.5}))
    for measure, scores in measured.items():
        assert len(scores.values) == len(scores.parts) == len(scores.clusters) > 0
        if measure not in ("own language first", "nDCG@10, own"):
            assert scores.score == pytest.approx(1.0), measure


def test_held_out_languages_are_asked_in_rows_never_trained_on(tiny_data, store):
    scores = SETS["held-out-languages"](tiny_data, store())["accuracy"]
    assert len(scores.values) == 2 * 20 * 99
    assert min(int(row.removeprefix("ntrex-")) for row in scores.clusters) == 1898


def test_the_tuning_pool_is_the_held_out_groups(tiny_data, store):
    measured = mlqa_pool(tiny_data, one := store())
    texts = {text for call in one.encoder.calls for text in call}
    assert 0 < len(measured["mAP"].values) < 40
    # Of each group both languages; a question and its passage are the same words here.
    assert len(texts) == 2 * len(set(measured["mAP"].clusters)) == len(measured["mAP"].values)


def test_the_pool_of_sentences_shows_a_preference_for_the_questions_language(
    tiny_data, store, monkeypatch, tmp_path
):
    monkeypatch.setattr("vectors.cache_folder", lambda: tmp_path)
    even = mlqa_sentences(tiny_data, store(**{"in-de": 0.1, "in-es": 0.1}))
    biased = mlqa_sentences(tiny_data, store(**{"in-de": 3.0, "in-es": 3.0}))
    assert even["mAP"].score == pytest.approx(1.0)
    assert biased["mAP"].score < 0.8, "all of one language before the right one of the other"
    assert biased["own language first"].score == 1.0
    assert biased["MRR within"].score == pytest.approx(1.0), "inside a language nothing is lost"


def test_dev_pools_are_neighbours(tiny_data, store):
    scores = dev_sets(tiny_data, one := store())["nDCG@10"]
    assert len(scores.values) == 120 * len(DEV_SETS)
    assert not any("article1" in text for call in one.encoder.calls for text in call)


def test_training_and_benchmark_hold_out_the_same_languages():
    assert read_held_out_languages(ROOT / "training" / "held-out-languages.txt") == HELD_OUT
    assert not [lang for lang in TUNED if is_held_out_language(lang, HELD_OUT)]


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
@pytest.mark.slow
def test_the_real_sets():
    passages = every_passage(SHARED)
    assert len(passages) == len({document.doc_id for document in passages}) == 80331
    assert len({document.lang for document in passages}) == 23
