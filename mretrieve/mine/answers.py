"""Find the sentences that answer a question, in its passages in several languages, without marked answers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ROUNDS = 4  # of looking for a better sentence in each passage; nearly always two are enough


def choose_answers(
    asked: Sequence[Floats], passages: Sequence[Floats]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose one sentence of each passage: near to the question, and to those chosen of the others.

    Passages in several languages that answer one question hold sentences that say the same, though all else
    in them may differ; so a sentence counts as much for agreeing with the others' as for its question.

    Args:
        asked: for each passage (n_sentences,), the similarity of each sentence to the question.
        passages: for each passage (n_sentences, dim), its sentences' embeddings.

    Returns:
        (n_passages,) rows of the sentences, and (n_passages,) by how much each leads the next best one of
        its passage; infinite where there is no other.
    """
    best = np.zeros(len(passages), np.int64)
    best_value = -np.inf
    # From each sentence of the passage that has most: the others join it, then each may change its mind.
    seed = max(range(len(passages)), key=lambda place: len(asked[place]))
    for start in range(len(asked[seed])):
        rows = np.array([int(np.argmax(one)) for one in asked], np.int64)
        rows[seed] = start
        for place in range(len(passages)):
            if place != seed:
                rows[place] = np.argmax(asked[place] + passages[place] @ passages[seed][start])
        rows = _settle(asked, passages, rows)
        value = sum(_values(asked, passages, rows, place)[rows[place]] for place in range(len(passages)))
        if value > best_value:
            best, best_value = rows, value
    return best, np.array([_lead(_values(asked, passages, best, p), best[p]) for p in range(len(passages))])


def _settle(
    asked: Sequence[Floats], passages: Sequence[Floats], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows of which none gains by changing alone."""
    for _ in range(_ROUNDS):
        before = rows.copy()
        for place in range(len(passages)):
            rows[place] = np.argmax(_values(asked, passages, rows, place))
        if (rows == before).all():
            break
    return rows


def _values(
    asked: Sequence[Floats], passages: Sequence[Floats], rows: NDArray[np.int64], place: int
) -> Floats:
    """(n_sentences,): of each sentence of a passage, given those chosen of the others."""
    others = [passages[other][rows[other]] for other in range(len(passages)) if other != place]
    if not others:
        return asked[place]
    agreement: Floats = passages[place] @ np.mean(others, axis=0)
    return asked[place] + agreement


def _lead(values: Floats, row: np.int64) -> float:
    others = np.delete(values, row)
    return float(values[row] - others.max()) if len(others) else float("inf")
