"""Exact rankings, against trec_eval by way of ir-measures and against sorting."""

import numpy as np
import pytest
from ranking import average_precision, best_run, first_is_translation, full_ranking

from mretrieve.evaluate.measures import evaluate


def unit(n, dim=8, seed=1):
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_average_precision_by_hand():
    assert average_precision(np.array([3, 1])) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precision(np.array([], np.int64)) == 0.0


def test_whole_rankings_are_trec_evals_with_ties_too(monkeypatch):
    monkeypatch.setattr("ranking._BLOCK_SCORES", 4000)  # several blocks
    documents = np.concatenate([unit(300), unit(300)[:40], unit(300)[:10]])  # some stand there thrice
    random = np.random.default_rng(2)
    doc_ids = [f"d{n}" for n in random.permutation(len(documents))]
    queries = np.concatenate([unit(50, seed=3), documents[:20]])
    query_ids = [f"q{n}" for n in range(len(queries))]
    qrels = {q: {doc_ids[row]: int(row) % 3 for row in random.integers(0, 350, 12)} for q in query_ids}
    precision, first = full_ranking(queries, doc_ids, documents, list(qrels.values()))
    scores = queries @ documents.T
    run = {q: dict(zip(doc_ids, row.tolist(), strict=True)) for q, row in zip(query_ids, scores, strict=True)}
    expected = evaluate(run, qrels, ["AP"]).per_query
    assert precision == pytest.approx([expected[query_id]["AP"] for query_id in query_ids])
    best = [max(hits.items(), key=lambda hit: (np.float32(hit[1]), hit[0]))[0] for hits in run.values()]
    assert first == best


def test_the_best_are_those_of_sorting():
    documents, queries = unit(500), unit(7, seed=4)
    doc_ids = [f"d{n}" for n in range(500)]
    run = best_run([f"q{n}" for n in range(7)], queries, doc_ids, documents, top_k=10)
    for n in range(7):
        order = np.argsort(-(queries[n] @ documents.T))[:10]
        assert list(run[f"q{n}"]) == [f"d{row}" for row in order]
    assert len(best_run(["q"], queries[:1], doc_ids[:3], documents[:3], top_k=10)["q"]) == 3


def test_the_translation_is_first_or_its_double():
    pool = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    asked = np.array([[0.9, 0.1, 0], [0, 1, 0], [0, 0.9, 0.3]], np.float32)
    assert first_is_translation(asked, [0, 2, 3], pool).tolist() == [1.0, 1.0, 0.0]
