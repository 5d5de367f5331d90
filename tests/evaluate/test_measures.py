"""Measures, against hand arithmetic and against trec_eval itself (pytrec_eval, without ir-measures)."""

import json
import random
from math import log2

import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.runs import read_run
from mretrieve.errors import InputError
from mretrieve.evaluate.measures import MEASURES, evaluate, evaluate_by_language, parse_measures

# d1 is ranked third and d9 is not found: two relevant documents, one of them twice as good.
QRELS = {"q1": {"d1": 2, "d2": 0, "d9": 1}, "q2": {"d1": 1}}
RUN = {"q1": {"d3": 9.5, "d2": 8.0, "d1": 2.5}, "q2": {"d1": 1.0, "d2": 0.5}}


def test_values_are_those_of_hand_arithmetic():
    names = ["nDCG@10", "R@100", "RR@10", "MRR@100", "AP", "P@5", "Success@1", "Judged@10"]
    evaluation = evaluate(RUN, QRELS, names)
    assert evaluation.per_query["q1"] == pytest.approx(
        {
            "nDCG@10": (2 / log2(4)) / (2 / log2(2) + 1 / log2(3)),
            "R@100": 1 / 2,
            "RR@10": 1 / 3,
            "MRR@100": 1 / 3,
            "AP": (1 / 3) / 2,
            "P@5": 1 / 5,
            "Success@1": 0.0,
            "Judged@10": 2 / 3,
        }
    )
    assert evaluation.per_query["q2"] == pytest.approx(
        dict(zip(names, [1, 1, 1, 1, 1, 1 / 5, 1, 1 / 2], strict=True))
    )
    assert evaluation.mean == pytest.approx(
        {name: (evaluation.per_query["q1"][name] + evaluation.per_query["q2"][name]) / 2 for name in names}
    )


def test_default_measures():
    assert list(evaluate(RUN, QRELS).mean) == ["nDCG@10", "R@100", "RR@10"]


def test_cutoffs_cut():
    assert evaluate(RUN, QRELS, ["RR@2", "RR@3", "R@2", "R@3"]).per_query["q1"] == pytest.approx(
        {"RR@2": 0.0, "RR@3": 1 / 3, "R@2": 0.0, "R@3": 1 / 2}
    )


def test_judged_queries_that_the_run_lacks_count_as_zero():
    qrels = QRELS | {"q3": {"d1": 1}, "q4": {"d1": 1}}
    evaluation = evaluate(RUN | {"q4": {}}, qrels, ["RR@10", "RR", "Judged@5"])
    assert evaluation.per_query["q3"] == evaluation.per_query["q4"] == {"RR@10": 0, "RR": 0, "Judged@5": 0}
    assert evaluation.mean["RR@10"] == evaluation.mean["RR"] == pytest.approx((1 / 3 + 1 + 0 + 0) / 4)
    assert evaluation.missing == ("q3", "q4")
    assert evaluation.n_queries == 4


def test_queries_without_judgements_are_left_out_and_counted():
    evaluation = evaluate({"q0": {"d1": 1.0}} | RUN, QRELS, ["RR@10"])
    assert evaluation.unjudged == ("q0",)
    assert list(evaluation.per_query) == ["q1", "q2"]
    assert evaluation.to_dict() == {
        "mean": {"RR@10": pytest.approx((1 / 3 + 1) / 2)},
        "queries": 2,
        "missing": 0,
        "unjudged": 1,
    }


def test_a_query_without_relevant_documents_counts_as_zero():
    evaluation = evaluate(RUN, QRELS | {"q2": {"d1": 0}}, ["nDCG@10", "RR@10", "RR", "R@10"])
    assert set(evaluation.per_query["q2"].values()) == {0.0}


@pytest.mark.parametrize(
    "measure", ["RR", "RR@10", "MRR@100", "AP", "P@1", "nDCG@1", "Success@1", "Judged@1"]
)
def test_ties_are_ordered_by_descending_doc_id(measure):
    tied = {"q": {"a": 1.0, "b": 1.0, "c": 1.0}}
    assert evaluate(tied, {"q": {"c": 1}}, [measure]).mean[measure] == 1.0
    assert evaluate(tied, {"q": {"a": 1}}, [measure]).mean[measure] < 0.5


def test_scores_that_differ_past_32_bits_are_ties():
    run = {"q": {"a": 1.0 + 1e-12, "b": 1.0}}
    assert evaluate(run, {"q": {"a": 1}}, ["RR@10"]).mean["RR@10"] == 1 / 2
    reference = pytrec_eval.RelevanceEvaluator({"q": {"a": 1}}, {"recip_rank"}).evaluate(run)
    assert reference["q"]["recip_rank"] == 1 / 2


def test_names_are_read_in_any_case():
    parsed = parse_measures(["ndcg@10", "mrr@100", "Map", "P@05", "NDCG@10", "judged@3", "r(rel=2)@5"])
    assert list(parsed) == ["nDCG@10", "MRR@100", "MAP", "P@5", "Judged@3", "R(rel=2)@5"]


def test_one_string_may_name_several():
    assert list(parse_measures("nDCG@10 R@100,RR@10 nDCG(gains={1:1, 2:3})@5")) == [
        "nDCG@10",
        "R@100",
        "RR@10",
        "nDCG(gains={1:1, 2:3})@5",
    ]


def test_options_reach_trec_eval():
    assert evaluate(RUN, QRELS, ["R(rel=2)@10", "R@10"]).per_query["q1"] == {"R(rel=2)@10": 1.0, "R@10": 0.5}


@pytest.mark.parametrize("name", MEASURES)
def test_every_named_measure_can_be_computed(name):
    spelled = name if MEASURES[name] == "none" else f"{name}@3"
    perfect = evaluate({"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q": {"a": 1, "b": 1, "c": 1}}, [spelled])
    assert perfect.mean == {spelled: pytest.approx(1.0)}


@pytest.mark.parametrize(
    ("measure", "sentence"),
    [
        ("nDGC@10", r"no measure 'nDGC@10'\. Did you mean nDCG@10\?"),
        ("recal@5", r"Did you mean Recall@5"),
        ("xyz", r"no measure 'xyz'\. Known are nDCG, R, "),
        ("nDCG@ten", r"Did you mean nDCG\?"),
        ("P", r"'P' needs a cutoff, as in P@10\."),
        ("Rprec@3", r"'Rprec@3' takes no cutoff\. Write Rprec\."),
        ("R@0", r"'R@0' has a cutoff below 1"),
        ("R(rel='a')@3", r"options of measure .* cannot be used"),
        ("R(foo=1)@3", r"options of measure .* cannot be used"),
        ("nDCG(dcg='exp-log2')@10", r"options of measure .* cannot be used"),
        ("R(__import__('os'))@3", r"options of measure .* cannot be used"),
    ],
)
def test_wrong_measures(measure, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluate(RUN, QRELS, [measure])


@pytest.mark.parametrize("measures", ["", " ", [], [""]])
def test_no_measure(measures):
    with pytest.raises(InputError, match="No measure was given"):
        evaluate(RUN, QRELS, measures)


def test_run_and_qrels_of_different_queries():
    run = {f"en-{number}": {"d1": 1.0} for number in range(5)}
    with pytest.raises(
        InputError, match=r"No query of the run is judged.*'en-0', 'en-1', 'en-2', \.\.\.;.*'q1', 'q2'\."
    ):
        evaluate(run, QRELS)


@pytest.mark.parametrize(
    ("run", "qrels", "sentence"),
    [
        ({}, QRELS, "The run ranks no documents"),
        ({"q1": {}}, QRELS, "The run ranks no documents"),
        (RUN, {}, "The qrels hold no judgements"),
        ({"q1": {"a": float("nan")}}, QRELS, "scores for query 'q1' hold one that is not a number"),
    ],
)
def test_nothing_to_score(run, qrels, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluate(run, qrels)


def test_languages_are_averaged_each_once():
    qrels = {"de-1": {"d1": 1}, "sw-1": {"d1": 1}, "sw-2": {"d1": 1}, "th-1": {"d1": 1}}
    run = {"sw-1": {"d1": 1.0}, "sw-2": {"d2": 2.0, "d1": 1.0}, "de-1": {"d1": 1.0}, "sw-3": {"d1": 1.0}}
    table = evaluate_by_language(run, qrels, {query_id: query_id[:2] for query_id in qrels | run}, ["RR@10"])
    assert list(table.by_language) == ["de", "sw", "th"]
    assert {language: part.mean["RR@10"] for language, part in table.by_language.items()} == {
        "de": 1.0,
        "sw": pytest.approx((1 + 1 / 2) / 2),
        "th": 0.0,
    }
    assert table.mean == {"RR@10": pytest.approx((1 + 3 / 4 + 0) / 3)}
    assert table.by_language["th"].missing == ("th-1",)
    assert table.by_language["sw"].unjudged == ("sw-3",)
    assert json.loads(json.dumps(table.to_dict()))["languages"]["sw"]["queries"] == 2


@pytest.mark.parametrize("languages", [{"q1": "en"}, {"q1": "en", "q2": ""}])
def test_a_judged_query_without_language(languages):
    with pytest.raises(InputError, match="Query 'q2' is judged but has no language"):
        evaluate_by_language(RUN, QRELS, languages)


ids = st.text(alphabet="abYZ09-éก", min_size=1, max_size=3)
grades = st.dictionaries(ids, st.integers(min_value=0, max_value=3), min_size=1, max_size=8)
scores = st.dictionaries(ids, st.sampled_from([-2.0, 0.0, 0.1, 0.1 + 1e-12, 7.25]), min_size=1, max_size=8)


@settings(deadline=None)
@given(
    qrels=st.dictionaries(st.sampled_from("pqrs"), grades, min_size=1),
    run=st.dictionaries(st.sampled_from("pqrst"), scores, min_size=1),
)
def test_values_equal_those_of_trec_eval(qrels, run):
    if not qrels.keys() & run.keys():
        with pytest.raises(InputError):
            evaluate(run, qrels)
        return
    names = {
        "nDCG@5": "ndcg_cut_5",
        "nDCG": "ndcg",
        "R@2": "recall_2",
        "RR": "recip_rank",
        "AP": "map",
        "P@5": "P_5",
        "Success@1": "success_1",
        "Rprec": "Rprec",
        "Bpref": "bpref",
    }
    evaluation = evaluate(run, qrels, [*names, "RR@1000"])
    reference = pytrec_eval.RelevanceEvaluator(qrels, set(names.values())).evaluate(run)
    for query_id in qrels:
        expected = {name: reference.get(query_id, {}).get(theirs, 0.0) for name, theirs in names.items()}
        assert evaluation.per_query[query_id] == pytest.approx(
            expected | {"RR@1000": expected["RR"]}, abs=1e-9
        )
    assert evaluation.mean["nDCG@5"] == pytest.approx(
        sum(values["ndcg_cut_5"] for values in reference.values()) / len(qrels)
    )


TREC_NAMES = {
    "nDCG@10": "ndcg_cut_10",
    "nDCG": "ndcg",
    "R@100": "recall_100",
    "R@5": "recall_5",
    "RR": "recip_rank",
    "AP": "map",
    "P@10": "P_10",
    "Success@1": "success_1",
}


def write_random_files(folder, draw):
    """A run and qrels with ties, duplicates, and queries and documents that only one of them knows.

    Returns:
        The run as trec_eval would take it: of a document's lines the one with the best score.
    """
    documents = [f"{draw.choice('abYZ')}{n}" for n in range(draw.randint(3, 40))]
    queries = [f"q{n}" for n in range(6)]
    ranked = draw.sample(queries, draw.randint(1, 6))
    judged = draw.sample(queries, draw.randint(1, 6))
    judged[0] = ranked[0]  # at least one in common
    best, lines = {}, []
    for query in ranked:
        for _ in range(draw.randint(1, 50)):
            doc_id, score = draw.choice(documents), draw.choice([0.0, -1.5, 0.1, 0.1 + 1e-12, 3.25, 1e9])
            lines.append(f"{query} Q0 {doc_id} {draw.randint(1, 99)} {score!r} t\n")
            of_query = best.setdefault(query, {})
            of_query[doc_id] = max(score, of_query.get(doc_id, score))
    draw.shuffle(lines)
    (folder / "run.trec").write_text("".join(lines))
    rows = [
        f"{query} 0 {doc_id} {draw.choice([0, 0, 1, 1, 2])}\n"
        for query in dict.fromkeys(judged)
        for doc_id in draw.sample(documents, draw.randint(1, len(documents)))
    ]
    (folder / "qrels.trec").write_text("".join(rows + rows[:2]))  # said twice alike
    return best


@pytest.mark.slow
def test_a_thousand_random_runs_score_as_trec_eval_scores_them(tmp_path):
    draw = random.Random(13)
    n_duplicates = n_missing = n_unjudged = 0
    for _ in range(1000):
        best = write_random_files(tmp_path, draw)
        duplicates = []
        run = read_run(tmp_path / "run.trec", on_duplicate=lambda *one: duplicates.append(one))  # noqa: B023
        qrels = read_qrels(tmp_path / "qrels.trec")
        found = evaluate(run, qrels, list(TREC_NAMES))
        reference = pytrec_eval.RelevanceEvaluator(qrels, set(TREC_NAMES.values())).evaluate(best)
        for ours, theirs in TREC_NAMES.items():
            values = {query_id: reference.get(query_id, {}).get(theirs, 0.0) for query_id in qrels}
            own = {query_id: round(one[ours], 4) for query_id, one in found.per_query.items()}
            assert own == {query_id: round(value, 4) for query_id, value in values.items()}
            # With -c, trec_eval's mean is over all judged queries.
            assert round(found.mean[ours], 4) == round(sum(values.values()) / len(values), 4)
        n_duplicates += len(duplicates)
        n_missing += len(found.missing)
        n_unjudged += len(found.unjudged)
    assert min(n_duplicates, n_missing, n_unjudged) > 500
