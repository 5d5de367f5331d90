"""What is learned on tuning sets and how it is held against other fusions, on rankings made for it."""

import json

import numpy as np
import pytest
from common import RESULTS
from tuned_fusion import Judged, comparisons, learn, measure, rank_with_vectors

from mretrieve.indexing import build_index
from mretrieve.rank.fusion import Ranking
from mretrieve.rank.ranked import Ranked
from mretrieve.rank.retriever import Retriever
from mretrieve.rank.tune import Question
from mretrieve.types import Query
from tests.conftest import write_jsonl

IDS = {row: f"d{row}" for row in range(30)}


def judged(name, lang, n, *, dense):
    """Questions whose answer the dense leg has first with a chance, and BM25 never."""
    draw = np.random.default_rng(len(name) + n)
    scores = np.linspace(1, 0, 20, dtype=np.float32)
    questions, qrels = [], {}
    for number in range(n):
        rows = draw.permutation(30)
        good, bad = rows[:20], np.concatenate([rows[1:10], rows[:1], rows[10:20]])
        first = Ranking(good if draw.random() < dense else bad, scores)
        questions.append(
            Question(f"{lang}-q{number}", Ranked(first, dense=first, bm25=Ranking(bad, scores)), IDS)
        )
        qrels[f"{lang}-q{number}"] = {IDS[int(rows[0])]: 1}
    return Judged(name, lang, questions, qrels)


def test_languages_learn_from_all_their_sets_and_few_questions_teach_nothing():
    sets = [judged("sw-one", "sw", 40, dense=0.9), judged("sw-two", "sw", 30, dense=0.9)]
    sets[1] = Judged("sw-two", "sw", sets[1].questions[:0], {})
    learned = learn([*sets, judged("de-few", "de", 5, dense=0.9)])
    assert list(learned) == ["sw"]
    assert learned["sw"].queries == 40
    assert float(learned["sw"].fusion.split(":")[1]) > 0.5


def test_systems_are_measured_on_the_same_questions():
    one = judged("xquad sw", "sw", 40, dense=0.9)
    learned = learn([one])["sw"]
    values = measure(one, learned)
    assert set(values) == {"bm25", "dense", "rrf", "default", "tuned"}
    assert values["bm25"] == pytest.approx(np.full(40, 1 / np.log2(11)))
    assert values["tuned"].mean() == pytest.approx(learned.after)
    assert values["default"].mean() == pytest.approx(learned.before)
    assert measure(one, None)["tuned"].tolist() == values["default"].tolist()
    found = comparisons([one], {one.name: values})
    assert found["tuned against rrf"]["difference"] == pytest.approx((values["tuned"] - values["rrf"]).mean())


def test_vectors_of_the_cache_are_ranked_beside_bm25(tmp_path, store):
    records = [{"_id": f"d{n}", "text": f"topic{n} in-de", "lang": "de"} for n in range(5)]
    build_index(write_jsonl(tmp_path / "corpus.jsonl", records), tmp_path / "index", dense=False)
    retriever = Retriever(tmp_path / "index")
    [ranked] = rank_with_vectors(retriever, [Query("q", "topic3 in-de", "de")], store())
    assert retriever.doc_ids(ranked.dense)[0] == retriever.doc_ids(ranked.bm25)[0] == "d3"
    assert ranked.dense.scores[0] == pytest.approx(1, abs=1e-3)


def test_no_language_of_the_published_figures_fell_below_its_better_leg_or_the_default():
    learned = json.loads((RESULTS / "tuned_fusion.json").read_text(encoding="utf-8"))["tuning"]
    assert len(learned) >= 15
    for lang, one in learned.items():
        assert one["after"] >= max(one["dense"], one["bm25"], one["before"]), lang
