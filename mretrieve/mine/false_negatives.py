"""Drop the candidates that may be answers after all: they would teach a model to push answers away."""

from collections.abc import Sequence
from dataclasses import replace

from mretrieve.mine.candidates import Candidate, Candidates, Dropped
from mretrieve.mine.near import overlap, plain
from mretrieve.mine.pool import Pool
from mretrieve.mine.relations import Relations
from mretrieve.mine.scorers import PoolScorer, Scorer
from mretrieve.mine.thresholds import Threshold
from mretrieve.types import Document, Qrels

MAX_OVERLAP = 0.5
"""Share of the shorter text from which two texts are taken for the same."""


def drop_false_negatives(
    candidates: Sequence[Candidates],
    qrels: Qrels,
    pool: Pool,
    *,
    threshold: Threshold | None = None,
    scorer: Scorer | None = None,
    relations: Relations | None = None,
    max_overlap: float = MAX_OVERLAP,
) -> list[Candidates]:
    """Drop candidates that are known or likely to answer their query.

    Dropped are documents judged relevant to the query or to the same question asked elsewhere, documents
    with its answer, documents parallel or nearly equal to a positive, and documents that score too near to
    the positive. What was judged as not relevant is kept whatever it scores.

    Args:
        candidates: as `retrieve` gives them, or as this function does with another scorer: then the pairs
            stay what they are, and candidates are scored anew.
        qrels: whose documents are the positives.
        pool: holds the positives.
        threshold: limits of the score; by default 0.95 of the positive's.
        scorer: by default the cosine of the pool's model.
        relations: what is known of answers; by default no more than `qrels` and the queries here.
        max_overlap: share of the shorter text that may stand in a positive too, from 0 to 1.

    Returns:
        One record for each query and each of its positives, with all scores. Queries without a positive in
        `qrels` are left out.

    Raises:
        InputError: a positive is not in the pool.
    """
    threshold, scorer = threshold or Threshold(), scorer or PoolScorer(pool)
    relations = relations or Relations([one.query for one in candidates], qrels)
    pairs = [pair for one in candidates for pair in _pairs(one, qrels, pool)]
    sifted = [_drop_known(pair, relations, max_overlap) for pair in pairs]
    documents = [[_positive(one).document, *(c.document for c in one.found)] for one in sifted]
    scores = scorer.score([one.query for one in sifted], documents)
    return [_drop_near(one, some.tolist(), threshold) for one, some in zip(sifted, scores, strict=True)]


def _pairs(one: Candidates, qrels: Qrels, pool: Pool) -> list[Candidates]:
    """A record for each of the query's positives."""
    if one.positive is not None:
        return [one]
    relevant = [doc_id for doc_id, grade in qrels.get(one.query.query_id, {}).items() if grade > 0]
    found = {candidate.document.doc_id: candidate for candidate in one.found}
    missing = [doc_id for doc_id in relevant if doc_id not in found]
    for document in pool.documents(pool.rows(missing)):
        found[document.doc_id] = Candidate(document)
    return [replace(one, positive=found[doc_id]) for doc_id in relevant]


def _positive(one: Candidates) -> Candidate:
    assert one.positive is not None
    return one.positive


def _drop_known(one: Candidates, relations: Relations, max_overlap: float) -> Candidates:
    """Drop what needs no score to be known as an answer, and what is there twice."""
    known = relations.known(one.query.query_id)
    positive = _positive(one).document
    kept: list[Candidate] = []
    dropped = list(one.dropped)
    texts: set[str] = set()
    for candidate in one.found:
        document = candidate.document
        reason = relations.reason(known, document)
        judged = document.doc_id in known.judged
        if reason is None and not judged and _is_near(document, positive, max_overlap):
            reason = "nearly equal to a positive"
        text = plain(document.contents)
        if reason is None and text in texts:
            reason = "repeats another candidate"
        if reason is None:
            kept.append(replace(candidate, judged=True) if judged else candidate)
            texts.add(text)
        elif document.doc_id != positive.doc_id:
            dropped.append(Dropped(candidate, reason))
    return replace(one, found=tuple(kept), dropped=tuple(dropped))


def _is_near(document: Document, positive: Document, max_overlap: float) -> bool:
    return overlap(document.contents, positive.contents) > max_overlap


def _drop_near(one: Candidates, scores: Sequence[float], threshold: Threshold) -> Candidates:
    """Enter the scores (the positive's first) and drop what scores too near to the positive."""
    positive = replace(_positive(one), score=scores[0])
    kept: list[Candidate] = []
    dropped = list(one.dropped)
    for candidate, score in zip(one.found, scores[1:], strict=True):
        scored = replace(candidate, score=score)
        limit = threshold.limit(
            positive.score, one.query.lang, positive.document.lang, candidate.document.lang
        )
        if score <= limit or candidate.judged:
            kept.append(scored)
        else:
            dropped.append(Dropped(scored, "scored too near the positive"))
    return replace(one, found=tuple(kept), positive=positive, dropped=tuple(dropped))
