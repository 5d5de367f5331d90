"""Whether a ranking of documents in several languages favours some of them.

Each language's share of the hits is held against its share of the relevant documents: in the first hit, in
the first ten, weighted by rank, and along the whole ranking. PEER (Yang, Jänich, Mayfield & Lawrie, 2024,
arXiv:2405.00978) asks something else: whether equally relevant documents of different languages can expect
the same rank. It is a test's p-value, so it needs several relevant documents of each language: with one of
each it is the same for every ranking.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mretrieve.errors import InputError
from mretrieve.evaluate.measures import trec_ranking
from mretrieve.types import Qrels, Run

DEPTH = 100
"""Ranks that are looked at."""

FIRST_HITS = 10
"""Ranks of `LanguageShare.first_hits`."""

PERSISTENCE = 0.9
"""How likely a reader goes on from one hit to the next (Moffat & Zobel, 2008, rank-biased precision)."""

_SHARES = ("relevant", "first", "first_hits", "exposure", "curve")


@dataclass(frozen=True, slots=True)
class LanguageShare:
    """How much of the rankings one language has, as shares of all hits, in the mean over queries.

    Attributes:
        language: of the documents.
        relevant: its share of the relevant documents: what it would have of a fair ranking.
        first: its share of the first hits.
        first_hits: its share of the first `FIRST_HITS` hits.
        exposure: its share of the hits with ranks weighted as a reader sees them.
        bias: `exposure` minus `relevant`; above 0 it is favoured.
        auc: area under `curve`: its share of the first k hits in the mean over k.
        curve: (depth,) its share of the first k hits, for k from 1.
    """

    language: str
    relevant: float
    first: float
    first_hits: float
    exposure: float
    bias: float
    auc: float
    curve: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fairness:
    """How evenly one run treats the languages of its documents.

    Attributes:
        queries: judged queries with a relevant document, over which all means are taken.
        missing: those of them for which the run ranks nothing; they count in `peer` only, as nothing found.
        depth: ranks looked at.
        peer: probability of equal expected rank, from 0 to 1; 1 is fair.
        language_bias: half the sum of the languages' absolute `bias`, query by query: the share of a
            reader's attention that had to move for a fair ranking; 0 is fair.
        own_language: `LanguageShare` of each query's own language; None where languages of queries are not
            known.
        languages: the languages of relevant or ranked documents, in alphabetical order.
    """

    queries: int
    missing: int
    depth: int
    peer: float
    language_bias: float
    own_language: LanguageShare | None
    languages: tuple[LanguageShare, ...]

    def to_dict(self) -> dict[str, object]:
        """All figures as a plain dictionary, for JSON."""
        return asdict(self)


def language_fairness(
    run: Run,
    qrels: Qrels,
    document_languages: Mapping[str, str],
    *,
    query_languages: Mapping[str, str] | None = None,
    depth: int = DEPTH,
    weights: Mapping[int, float] | None = None,
) -> Fairness:
    """Measure how evenly a run treats the languages of its documents.

    Args:
        run: query_id -> doc_id -> score.
        qrels: query_id -> doc_id -> grade; grades of 1 and more are relevant.
        document_languages: doc_id -> language of all documents of the run and all relevant ones.
        query_languages: query_id -> language, for the share of each query's own language.
        depth: ranks to look at.
        weights: grade -> weight of its documents in PEER; by default all relevant grades alike.

    Raises:
        InputError: `depth` is below 1, a document has no language, a weight is negative, or no judged query
            has a relevant document.
    """
    judged = _relevant(qrels, depth)
    rankings = {query_id: trec_ranking(query_id, run.get(query_id, {}))[:depth] for query_id in judged}
    found = [query_id for query_id, ranking in rankings.items() if ranking]
    if not found:
        raise InputError("The run ranks nothing for any query that has a relevant document.")
    number = _numbers(rankings, judged, document_languages)
    shares, own, unfair = _Shares(len(number), depth), _Shares(1, depth), []
    for query_id in found:
        ranked = [number[document_languages[doc_id]] for doc_id in rankings[query_id]]
        relevant = [number[document_languages[doc_id]] for doc_id in judged[query_id]]
        one = _Shares.of(ranked, relevant, (len(number), depth))
        shares.add(one)
        unfair.append(np.abs(one.exposure - one.relevant).sum() / 2)
        if (asked := number.get((query_languages or {}).get(query_id, ""))) is not None:
            own.add(one.part(asked))
    weights = _weights(judged, weights)
    peer = [_peer(rankings[name], one, document_languages, weights) for name, one in judged.items()]
    return Fairness(
        queries=len(judged),
        missing=len(judged) - len(found),
        depth=depth,
        peer=float(np.mean(peer)),
        language_bias=float(np.mean(unfair)),
        own_language=own.mean("own", 0) if own.n_queries else None,
        languages=tuple(shares.mean(lang, place) for lang, place in number.items()),
    )


def equal_rank_probability(ranks: Sequence[Sequence[float]]) -> float:
    """p-value of the Kruskal-Wallis test that groups have the same expected rank (Kruskal & Wallis, 1952).

    Args:
        ranks: positions of the documents of each group in a ranking, in any units; equal ones are ties, and
            infinity stands for all that were not found.

    Returns:
        From 0 to 1; 1 where fewer than two groups have documents, or all documents are tied.
    """
    groups = [np.asarray(group, np.float64) for group in ranks if len(group)]
    if len(groups) < 2:
        return 1.0
    values, place, count = np.unique(np.concatenate(groups), return_inverse=True, return_counts=True)
    if len(values) == 1:
        return 1.0
    midranks = (np.cumsum(count) - (count - 1) / 2)[place]
    middle = midranks.mean()
    ends = np.cumsum([len(group) for group in groups])[:-1]
    between = sum(len(one) * (one.mean() - middle) ** 2 for one in np.split(midranks, ends))
    statistic = (len(midranks) - 1) * between / ((midranks - middle) ** 2).sum()
    return _chi_squared_tail(float(statistic), len(groups) - 1)


class _Shares:
    """Shares by language, summed over queries: (n_languages,) each, and `curve` (n_languages, depth)."""

    def __init__(self, n_languages: int, depth: int) -> None:
        self.n_queries = 0
        self.relevant, self.first, self.first_hits, self.exposure = np.zeros((4, n_languages))
        self.curve = np.zeros((n_languages, depth))

    @staticmethod
    def of(ranked: Sequence[int], relevant: Sequence[int], shape: tuple[int, int]) -> "_Shares":
        """Of one query, from the languages of the ranked documents and of the relevant ones."""
        hits = np.zeros(shape)
        hits[ranked, np.arange(len(ranked))] = 1
        seen = PERSISTENCE ** np.arange(shape[1])
        made = _Shares(*shape)
        made.n_queries = 1
        made.relevant = np.bincount(relevant, minlength=shape[0]) / len(relevant)
        made.first = hits[:, 0]
        made.exposure = hits @ seen / seen[: len(ranked)].sum()
        # A short ranking's shares stay what they were at its end.
        made.curve = np.cumsum(hits, axis=1) / np.minimum(np.arange(1, shape[1] + 1), len(ranked))
        made.first_hits = made.curve[:, min(FIRST_HITS, shape[1]) - 1]
        return made

    def part(self, place: int) -> "_Shares":
        """Those of one language."""
        made = _Shares(1, self.curve.shape[1])
        made.n_queries = self.n_queries
        for name in _SHARES:
            setattr(made, name, getattr(self, name)[place : place + 1])
        return made

    def add(self, other: "_Shares") -> None:
        """Add another query's."""
        self.n_queries += other.n_queries
        for name in _SHARES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def mean(self, label: str, place: int) -> LanguageShare:
        """The mean over queries of one language."""
        relevant, first, first_hits, exposure = (
            float(getattr(self, name)[place] / self.n_queries) for name in _SHARES[:-1]
        )
        curve = self.curve[place] / self.n_queries
        return LanguageShare(
            language=label,
            relevant=relevant,
            first=first,
            first_hits=first_hits,
            exposure=exposure,
            bias=exposure - relevant,
            auc=float(curve.mean()),
            curve=tuple(curve.tolist()),
        )


def _peer(
    ranking: Sequence[str],
    relevant: Mapping[str, int],
    languages: Mapping[str, str],
    weights: Mapping[int, float],
) -> float:
    """PEER of one query: the weighted mean, over the grades that it has, of the test's p-values.

    The ranks are those among the documents of the grade, as the test has them; documents that were not
    found are tied behind all others.
    """
    rank = {doc_id: float(place) for place, doc_id in enumerate(ranking, start=1)}
    by_grade: dict[int, dict[str, list[float]]] = {}
    for doc_id, grade in relevant.items():
        groups = by_grade.setdefault(grade, {})
        groups.setdefault(languages[doc_id], []).append(rank.get(doc_id, np.inf))
    total = sum(weights.get(grade, 0.0) for grade in by_grade)
    if not total:
        return 1.0
    p_values = {grade: equal_rank_probability(list(groups.values())) for grade, groups in by_grade.items()}
    return sum(weights.get(grade, 0.0) * p for grade, p in p_values.items()) / total


def _weights(judged: Qrels, weights: Mapping[int, float] | None) -> Mapping[int, float]:
    if weights is None:
        return {grade: 1.0 for one in judged.values() for grade in one.values()}
    for grade, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise InputError(f"The weight of grade {grade} is {weight}, but weights are not negative.")
    return weights


def _relevant(qrels: Qrels, depth: int) -> Qrels:
    """The relevant documents of each query that has any."""
    if depth < 1:
        raise InputError(f"The depth is {depth}, but at least one rank has to be looked at.")
    judged = {
        query_id: {d: grade for d, grade in one.items() if grade > 0} for query_id, one in qrels.items()
    }
    judged = {query_id: one for query_id, one in judged.items() if one}
    if not judged:
        raise InputError("No query of the qrels has a relevant document, so no language has a fair share.")
    return judged


def _numbers(
    rankings: Mapping[str, Sequence[str]], judged: Qrels, languages: Mapping[str, str]
) -> dict[str, int]:
    """A number for each language of a ranked or relevant document, in alphabetical order."""
    places = {
        doc_id: query_id for parts in (rankings, judged) for query_id, one in parts.items() for doc_id in one
    }
    missing = [doc_id for doc_id in places if not languages.get(doc_id)]
    if missing:
        raise InputError(
            f"The language of {len(missing):,} documents is not known, such as {missing[0]!r} for query "
            f"{places[missing[0]]!r}. Give the collection, or the index, that the run was made of."
        )
    names = sorted({languages[doc_id] for doc_id in places})
    return {lang: place for place, lang in enumerate(names)}


def _chi_squared_tail(statistic: float, degrees: int) -> float:
    """Probability of a chi-squared variable above `statistic`, by the recurrence over degrees of freedom."""
    from math import erfc, exp, lgamma, log, sqrt

    half = statistic / 2
    if half <= 0:
        return 1.0
    tail, shape = (erfc(sqrt(half)), 0.5) if degrees % 2 else (exp(-half), 1.0)
    while shape < degrees / 2:  # Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1)
        tail += exp(shape * log(half) - half - lgamma(shape + 1))
        shape += 1
    return min(1.0, tail)
