"""The stage `teach`: scores are the cross-encoder's, whether it was given or trained."""

import numpy as np
import pytest
from datasets import load_from_disk
from sentence_transformers import CrossEncoder

from mretrieve.errors import InputError
from mretrieve.train import teaching
from mretrieve.train.runner import run_recipe
from tests.train.tiny import tiny_reranker


@pytest.fixture
def run(write_recipe, prepared, tmp_path):
    def run(**teach):
        stage = {"stage": "teach", "data": ["mined/mono"], "negatives": 2} | teach
        recipe = write_recipe(prepared | {"scored": stage})
        return run_recipe(recipe, run_folder=tmp_path / "run", device="cpu")

    return run


def test_scores_are_logits_of_positive_and_negatives(run, reranker):
    report = run(teacher=str(reranker))
    data = load_from_disk(str(report.folder / "scored" / "mono"))
    assert len(data) == len(load_from_disk(str(report.folder / "mined" / "mono")))
    row = data[5]
    texts = [row["positive"], row["negative_1"], row["negative_2"]]
    model = CrossEncoder(str(reranker), device="cpu")
    expected = model.predict([(row["anchor"], text) for text in texts], activation_fn=lambda x: x)
    np.testing.assert_allclose(row["scores"], expected, atol=1e-4)
    assert len(row["negative_languages"]) == 2
    right = [one["scores"][0] > max(one["scores"][1:]) for one in data]
    assert report.stages[-1].scores == {"positive_first": pytest.approx(np.mean(right), abs=1e-5)}


def test_only_what_the_teacher_knows_is_scored(run, reranker):
    report = run(teacher=str(reranker), languages=["en", "sw"])
    data = load_from_disk(str(report.folder / "scored" / "mono"))
    assert set(data["language"][:]) == {"en", "sw"}
    assert report.stages[-1].details["examples"] == {"mono": len(data)}


def test_examples_may_have_to_be_in_one_language(run, reranker):
    report = run(teacher=str(reranker), data=["mined/cross"], same_language=True)
    for row in load_from_disk(str(report.folder / "scored" / "cross")):
        assert {row["language"], row["positive_language"], *row["negative_languages"]} == {row["language"]}


def test_what_is_scored_is_not_scored_again(run, reranker, monkeypatch):
    monkeypatch.setattr(teaching, "_AT_ONCE", 50)
    scores = teaching._logits
    calls = []

    def stop_at_two(*arguments):
        calls.append(len(arguments[1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return scores(*arguments)

    monkeypatch.setattr(teaching, "_logits", stop_at_two)
    with pytest.raises(KeyboardInterrupt):
        run(teacher=str(reranker))
    report = run(teacher=str(reranker))
    assert calls == [50, 50, 44, 44]
    assert not (report.folder / "scored" / "work").exists()


@pytest.mark.parametrize("loss", ["binary", "ranking"])
def test_a_teacher_is_trained_here(run, base, loss):
    train = {"base": str(base), "data": ["mined/mono"], "negatives": 3, "steps": 4, "loss": loss}
    report = run(train=train | {"batch_size": 8, "max_tokens": 30, "bf16": False, "save_every": 2})
    model = CrossEncoder(str(report.folder / "scored" / "teacher"), device="cpu")
    assert model.num_labels == 1
    assert "positive_first" in report.stages[-1].scores


@pytest.mark.parametrize(
    ("teach", "message"),
    [
        ({}, r"give a teacher, or say under train how to make one"),
        ({"teacher": "base"}, r"'.*base' is an embedding model, but a cross-encoder is needed"),
        ({"teacher": "two"}, r"gives 2 numbers per pair"),
        ({"teacher": "empty"}, r"empty is no model: it has no config.json"),
        ({"teacher": "reranker", "languages": ["th"]}, r"in th, but no example of it is wholly in"),
        ({"teacher": "reranker", "negatives": 5}, r"lacks negative_4, negative_5"),
        ({"teacher": "reranker", "data": ["data/mono"]}, r"lacks negative_languages"),
    ],
)
def test_what_cannot_teach_is_told(run, base, reranker, tmp_path, teach, message):
    (tmp_path / "empty").mkdir()
    if teach.get("teacher") == "two":
        tiny_reranker(tmp_path / "two", outputs=2)
    places = {"base": base, "reranker": reranker, "two": tmp_path / "two", "empty": tmp_path / "empty"}
    if teach.get("teacher") in places:
        teach = teach | {"teacher": str(places[teach["teacher"]])}
    with pytest.raises(InputError, match=message):
        run(**teach)
