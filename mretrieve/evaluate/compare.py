"""Say of two runs which is better, in which languages, and whether that may be chance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from mretrieve.evaluate.measures import DEFAULT_MEASURES, Evaluation, evaluate, language_of
from mretrieve.evaluate.significance import N_RESAMPLES, SEED, bootstrap_interval, compare, holm
from mretrieve.types import Qrels, Run

MEAN_OF_LANGUAGES = "mean of languages"
"""Label of the row in which each language counts once."""

ALL_QUERIES = "all queries"
"""Label of the row in which each query counts once."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries and the 95% bootstrap interval of it."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ComparedRuns:
    """Two runs by one measure on the queries of one language, or of all.

    Attributes:
        language: ISO code, `MEAN_OF_LANGUAGES` or `ALL_QUERIES`.
        measure: its name.
        queries: judged queries.
        first: mean of the first run.
        second: mean of the second run.
        difference: second minus first.
        low: lower end of the difference's 95% bootstrap interval.
        high: upper end of it.
        p_value: of the paired randomisation test.
        p_holm: p-value corrected for the number of languages; that of a mean is its p-value.
        better: queries on which the second run is better.
        worse: queries on which it is worse.
    """

    language: str
    measure: str
    queries: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    better: int
    worse: int

    def to_dict(self) -> dict[str, object]:
        """The fields as a plain dictionary, for JSON."""
        return asdict(self)


def compare_runs(
    first: Run,
    second: Run,
    qrels: Qrels,
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    query_languages: Mapping[str, str] | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
) -> list[ComparedRuns]:
    """Compare two runs query by query.

    Args:
        first: the run to start from.
        second: the run to judge.
        qrels: judgements; judged queries that a run lacks count as 0 for it.
        measures: names as for `evaluate`.
        query_languages: query_id -> language, for rows by language; without it there is one row a measure.
        n_resamples: random draws of each test and interval.
        seed: of the draws.

    Returns:
        For each measure its languages in alphabetical order, the mean of the languages if there are
        several, and all queries. p-values of the languages are corrected together (Holm, 1979).

    Raises:
        InputError: what `evaluate` raises; or a judged query has no language.
    """
    one, other = evaluate(first, qrels, measures), evaluate(second, qrels, measures)
    rows: list[ComparedRuns] = []
    for measure in one.mean:
        pairs = _Pairs(measure, one, other, n_resamples, seed)
        by_language: list[ComparedRuns] = []
        if query_languages is not None:
            groups = [language_of(query_id, query_languages) for query_id in qrels]
            by_language = [pairs.row(lang, groups) for lang in sorted(set(groups))]
            corrected = holm([row.p_value for row in by_language])
            by_language = [replace(row, p_holm=p) for row, p in zip(by_language, corrected, strict=True)]
            if len(by_language) > 1:
                by_language.append(pairs.row(MEAN_OF_LANGUAGES, groups))
        rows += [*by_language, pairs.row(ALL_QUERIES, None)]
    return rows


def intervals(
    evaluation: Evaluation,
    *,
    query_languages: Mapping[str, str] | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
) -> dict[str, dict[str, Interval]]:
    """Bootstrap intervals of a run's means.

    Args:
        evaluation: the run's values.
        query_languages: query_id -> language, for intervals by language.
        n_resamples: random draws of each interval.
        seed: of the draws.

    Returns:
        Language, `MEAN_OF_LANGUAGES` or `ALL_QUERIES` -> measure -> interval.

    Raises:
        InputError: a judged query has no language.
    """
    ids = list(evaluation.per_query)
    groups = None if query_languages is None else [language_of(one, query_languages) for one in ids]
    parts: dict[str, tuple[list[int], list[str] | None]] = {ALL_QUERIES: (list(range(len(ids))), None)}
    if groups is not None:
        for lang in sorted(set(groups)):
            parts[lang] = ([place for place, group in enumerate(groups) if group == lang], None)
        parts[MEAN_OF_LANGUAGES] = (list(range(len(ids))), groups)
    found: dict[str, dict[str, Interval]] = {}
    for label, (places, kept) in parts.items():
        found[label] = {}
        for measure in evaluation.mean:
            values = [evaluation.per_query[ids[place]][measure] for place in places]
            low, high = bootstrap_interval(values, groups=kept, n_resamples=n_resamples, seed=seed)
            found[label][measure] = Interval(_grouped_mean(values, kept), low, high)
    return found


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Two runs' values by one measure, and how they are tested."""

    measure: str
    first: Evaluation
    second: Evaluation
    n_resamples: int
    seed: int

    def row(self, label: str, groups: Sequence[str] | None) -> ComparedRuns:
        """The queries of the group `label`; for the labels of means all queries."""
        ids = list(self.first.per_query)
        kept = groups if label == MEAN_OF_LANGUAGES else None
        if groups is not None and kept is None:
            ids = [query_id for query_id, group in zip(ids, groups, strict=True) if group == label]
        one, other = (
            [evaluation.per_query[query_id][self.measure] for query_id in ids]
            for evaluation in (self.first, self.second)
        )
        result = compare(one, other, groups=kept, n_resamples=self.n_resamples, seed=self.seed)
        return ComparedRuns(
            language=label,
            measure=self.measure,
            queries=len(ids),
            first=_grouped_mean(one, kept),
            second=_grouped_mean(other, kept),
            difference=result.difference,
            low=result.low,
            high=result.high,
            p_value=result.p_value,
            p_holm=result.p_value,
            better=sum(b > a for a, b in zip(one, other, strict=True)),
            worse=sum(b < a for a, b in zip(one, other, strict=True)),
        )


def _grouped_mean(values: Sequence[float], groups: Sequence[str] | None) -> float:
    """Mean of the groups' means; of all values without groups."""
    by_group: dict[str, list[float]] = {}
    for value, group in zip(values, groups or [""] * len(values), strict=True):
        by_group.setdefault(group, []).append(value)
    return sum(sum(one) / len(one) for one in by_group.values()) / len(by_group)
