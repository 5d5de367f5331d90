"""Choose the negatives of each query from its candidates."""

import hashlib
import math
import random
from collections.abc import Sequence
from typing import Literal, get_args

from mretrieve.errors import InputError
from mretrieve.mine.candidates import Candidate, Candidates, Triple

Strategy = Literal["top", "random", "top1+random"]
"""The best-scored candidates, any of them, or the best one and any others (NV-Retriever, section 3.3)."""


def sample_negatives(
    candidates: Sequence[Candidates],
    *,
    per_query: int = 7,
    seed: int = 13,
    strategy: Strategy = "top",
    other_languages: float = 0.0,
) -> list[Triple]:
    """Choose negatives.

    The choice for a query depends on its own candidates and the seed only, so a part of the queries gives a
    part of the triples.

    Args:
        candidates: as `drop_false_negatives` gives them.
        per_query: negatives of each triple; fewer where there are not so many.
        seed: of the random choices.
        strategy: which candidates are taken.
        other_languages: share of the negatives that are in another language than the query, taken from each
            language in turn. Where one side has too few, the other one fills up.

    Returns:
        One triple for each record with any candidate left, negatives with the best score first.

    Raises:
        InputError: a number or the strategy is out of range.
    """
    check_sampling(per_query, strategy, other_languages)
    triples = []
    for one in candidates:
        assert one.positive is not None, "pairs come from drop_false_negatives"
        rng = _rng(seed, one.query.query_id, one.positive.document.doc_id)
        ordered = _in_order(one.found, strategy, rng)
        own = [c for c in ordered if c.document.lang == one.query.lang]
        others = _in_turns([c for c in ordered if c.document.lang != one.query.lang], rng)
        n_others = min(round(per_query * other_languages), len(others))
        n_own = min(per_query - n_others, len(own))
        chosen = own[:n_own] + others[: per_query - n_own]
        if chosen:
            triples.append(Triple(one.query, one.positive, tuple(sorted(chosen, key=_best_first))))
    return triples


def _in_order(found: Sequence[Candidate], strategy: Strategy, rng: random.Random) -> list[Candidate]:
    """The candidates in the order in which they are taken."""
    ordered = sorted(found, key=_best_first)
    first = {"top": len(ordered), "random": 0, "top1+random": 1}[strategy]
    rest = ordered[first:]
    rng.shuffle(rest)
    return ordered[:first] + rest


def _in_turns(candidates: Sequence[Candidate], rng: random.Random) -> list[Candidate]:
    """One candidate of each language, then a second one of each, and so on."""
    by_language: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_language.setdefault(candidate.document.lang, []).append(candidate)
    languages = sorted(by_language)
    rng.shuffle(languages)
    longest = max(map(len, by_language.values()), default=0)
    return [
        by_language[lang][turn]
        for turn in range(longest)
        for lang in languages
        if turn < len(by_language[lang])
    ]


def _best_first(candidate: Candidate) -> tuple[float, int, str]:
    score = -math.inf if math.isnan(candidate.score) else candidate.score
    return (-score, candidate.rank, candidate.document.doc_id)


def _rng(seed: int, *names: str) -> random.Random:
    key = "\0".join([str(seed), *names]).encode()
    return random.Random(int.from_bytes(hashlib.sha256(key).digest(), "big"))


def check_sampling(per_query: int, strategy: str, other_languages: float) -> None:
    """Make sure that the choices of `sample_negatives` are in range.

    Raises:
        InputError: one is not.
    """
    if per_query < 1:
        raise InputError(f"per_query is {per_query}: ask for one negative or more.")
    if strategy not in get_args(Strategy):
        raise InputError(f"Unknown strategy '{strategy}'. Choose from: {', '.join(get_args(Strategy))}.")
    if not 0 <= other_languages <= 1:
        raise InputError(
            f"other_languages is {other_languages:g}, but it is the share of negatives in other languages "
            "than the query's, from 0 to 1."
        )
