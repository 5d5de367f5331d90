"""Learn for each language how much its dense and its BM25 ranking count, on questions kept for tuning.

The choice is a cautious one. Of all weights that do no worse than either leg alone and than the index's own
fusion, and that the questions cannot tell from the best one (by a standard error), the one nearest to that
fusion is taken: few questions change little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.evaluate.measures import evaluate, parse_measures
from mretrieve.index.stages import OnProgress
from mretrieve.rank.fusion import Fusion, Ranking
from mretrieve.rank.queries import query_languages
from mretrieve.rank.ranked import Ranked
from mretrieve.rank.retriever import Retriever
from mretrieve.rank.tuning import TunedLanguage, Tuning
from mretrieve.types import Qrels, Query

MEASURE = "nDCG@10"

LEAST_QUERIES = 30
"""Judged queries of a language from which its weights are learned."""

WEIGHTS = tuple(number / 20 for number in range(21))
"""Of the dense leg; 1 and 0 are the legs alone."""

STANDARD_ERRORS = 1.0
"""How far below the best a weight may be to be taken for as good."""

_AT_ONCE = 256  # queries ranked together


@dataclass(frozen=True, slots=True)
class Question:
    """A query, what its legs found, and the ids of all documents among these."""

    query_id: str
    ranked: Ranked
    doc_ids: dict[int, str]

    def run(self, ranking: Ranking) -> dict[str, float]:
        """A ranking of these documents as a run has it: doc_id -> score."""
        scores = zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True)
        return {self.doc_ids[row]: score for row, score in scores}


def tune(
    retriever: Retriever,
    queries: Sequence[Query],
    qrels: Qrels,
    *,
    measure: str = MEASURE,
    on_progress: OnProgress | None = None,
) -> Tuning:
    """Learn the weights of an index's legs for each language of some judged queries.

    Args:
        retriever: of the index.
        queries: with their judgements; those without are left out.
        qrels: query_id -> doc_id -> grade, of a split that is not for testing.
        measure: what is to be high.
        on_progress: told of `queries` and how many have been ranked.

    Returns:
        The weights of each language of at least `LEAST_QUERIES` judged queries.

    Raises:
        InputError: no query is judged, the measure is unknown, or the index has one leg only.
    """
    (name,) = parse_measures([measure])
    judged = [query for query in queries if query.query_id in qrels]
    if not judged:
        raise InputError("None of the queries is judged in the qrels: give queries and qrels of one split.")
    by_language: dict[str, list[Query]] = {}
    for query, lang in zip(judged, query_languages(judged), strict=True):
        by_language.setdefault(lang, []).append(query)
    own = retriever.fusion
    learned: dict[str, TunedLanguage] = {}
    n_done = 0
    for lang, asked in sorted(by_language.items()):
        if lang and len(asked) >= LEAST_QUERIES:
            questions: list[Question] = []
            for start in range(0, len(asked), _AT_ONCE):
                batch = asked[start : start + _AT_ONCE]
                questions += as_questions(retriever, batch, retriever.rank(batch, mode="hybrid"))
                n_done += len(batch)
                if on_progress is not None:
                    on_progress("queries", n_done, len(judged))
            learned[lang] = learn_weights(questions, qrels, own, measure=name)
    return Tuning(name, learned)


def as_questions(retriever: Retriever, queries: Sequence[Query], ranked: Sequence[Ranked]) -> list[Question]:
    """Look up the ids of all documents that the legs found."""
    questions = []
    for query, one in zip(queries, ranked, strict=True):
        assert one.dense is not None and one.bm25 is not None
        rows = np.union1d(one.dense.rows, one.bm25.rows)
        ids = retriever.doc_ids(Ranking(rows, np.zeros(len(rows), np.float32)))
        questions.append(Question(query.query_id, one, dict(zip(rows.tolist(), ids, strict=True))))
    return questions


def learn_weights(
    questions: Sequence[Question], qrels: Qrels, own: Fusion, *, measure: str = MEASURE
) -> TunedLanguage:
    """Choose how the legs are joined for some questions.

    Args:
        questions: judged ones, of one language.
        qrels: their judgements.
        own: the fusion that the choice starts from.
        measure: what is to be high.

    Returns:
        The choice, and what the legs, `own` and the choice reach on the questions.
    """
    judged = {question.query_id: qrels[question.query_id] for question in questions}
    legs = [
        _values([question.run(_leg(question.ranked, leg)) for question in questions], judged, measure)
        for leg in ("dense", "bm25")
    ]
    candidates = candidate_fusions(own)
    values = np.array(
        [
            _values([_fused(question, fusion) for question in questions], judged, measure)
            for fusion in candidates
        ]
    )
    choice = choose(values, floor=float(max(one.mean() for one in (*legs, values[0]))))
    return TunedLanguage(
        fusion=str(candidates[choice]),
        queries=len(questions),
        dense=float(legs[0].mean()),
        bm25=float(legs[1].mean()),
        before=float(values[0].mean()),
        after=float(values[choice].mean()),
    )


def candidate_fusions(own: Fusion) -> list[Fusion]:
    """What is tried, the index's own fusion first, then what is less and less like it."""
    method, middle = ("zscore", 0.5) if own.method == "rrf" else (own.method, own.parameter)
    tried = [Fusion(method, weight, own.unseen) for weight in WEIGHTS]
    near = sorted(tried, key=lambda fusion: abs(fusion.parameter - middle))
    return [own, *(fusion for fusion in near if fusion != own)]


def choose(values: NDArray[np.float64], *, floor: float) -> int:
    """Choose one of several candidates, those first named being preferred.

    Args:
        values: (n_candidates, n_queries).
        floor: the mean that the choice has to reach, if any candidate does.

    Returns:
        The first candidate that reaches the floor and is not below the best by more than `STANDARD_ERRORS`
        of the difference between them.
    """
    means = values.mean(axis=1)
    best = int(means.argmax())
    n_queries = values.shape[1]
    errors = (values[best] - values).std(axis=1, ddof=1 if n_queries > 1 else 0) / np.sqrt(n_queries)
    as_good = means[best] - means <= STANDARD_ERRORS * errors + 1e-12
    above = means >= min(floor, means[best]) - 1e-12
    return int(np.flatnonzero(as_good & above)[0])


def _leg(ranked: Ranked, name: str) -> Ranking:
    leg: Ranking | None = getattr(ranked, name)
    assert leg is not None
    return leg


def _fused(question: Question, fusion: Fusion) -> dict[str, float]:
    one = question.ranked
    return question.run(fusion.fuse(_leg(one, "dense"), _leg(one, "bm25"), seen=one.seen))


def _values(run: Sequence[dict[str, float]], judged: Qrels, measure: str) -> NDArray[np.float64]:
    """(n_queries,) values; `run` is in the order of `judged`."""
    ranked = dict(zip(judged, run, strict=True))
    if not any(run):
        return np.zeros(len(run))
    per_query = evaluate(ranked, judged, [measure]).per_query
    return np.array([per_query[query_id][measure] for query_id in judged])
