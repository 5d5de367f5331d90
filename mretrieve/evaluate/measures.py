"""Score runs against judgements, as trec_eval does.

The arithmetic is that of ir-measures, whose default for these measures is trec_eval itself. Documents are
put into trec_eval's order first, since ir-measures' other parts (RR with a cutoff, Judged) break ties
another way.
"""

import difflib
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum
from typing import TYPE_CHECKING, Literal

from mretrieve.errors import InputError
from mretrieve.types import Qrels, Run

if TYPE_CHECKING:
    from ir_measures import Evaluator, Measure

DEFAULT_MEASURES = ("nDCG@10", "R@100", "RR@10")

# Name -> whether it takes a cutoff: both nDCG and nDCG@10, but P@5 only and Rprec only.
MEASURES: dict[str, Literal["optional", "required", "none"]] = {
    "nDCG": "optional",
    "R": "required",
    "Recall": "required",
    "RR": "optional",
    "MRR": "optional",
    "AP": "optional",
    "MAP": "optional",
    "P": "required",
    "Precision": "required",
    "Success": "required",
    "Judged": "optional",
    "Rprec": "none",
    "Bpref": "none",
}

_CANONICAL = {name.lower(): name for name in MEASURES}
_PATTERN = re.compile(r"(?P<name>[A-Za-z]+)(?P<options>\(.*\))?(@(?P<cutoff>\d+))?")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The values of one run.

    Attributes:
        per_query: query_id -> measure -> value, for every judged query.
        mean: measure -> mean over the judged queries.
        missing: judged queries for which the run ranks nothing; they count as 0, as with `trec_eval -c`.
        unjudged: queries of the run without judgements; they do not count.
    """

    per_query: dict[str, dict[str, float]]
    mean: dict[str, float]
    missing: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()

    @property
    def n_queries(self) -> int:
        """Number of judged queries, over which the means are taken."""
        return len(self.per_query)

    def to_dict(self) -> dict[str, object]:
        """Means and counts as a plain dictionary, for JSON."""
        return {
            "mean": self.mean,
            "queries": self.n_queries,
            "missing": len(self.missing),
            "unjudged": len(self.unjudged),
        }


@dataclass(frozen=True, slots=True)
class LanguageEvaluation:
    """The values of one run, by query language.

    Attributes:
        by_language: language -> its evaluation, in alphabetical order.
        mean: measure -> mean over languages, each counted once whatever its number of queries.
    """

    by_language: dict[str, Evaluation]
    mean: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """Means and counts as a plain dictionary, for JSON."""
        languages = {language: evaluation.to_dict() for language, evaluation in self.by_language.items()}
        return {"mean": self.mean, "languages": languages}


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str] = DEFAULT_MEASURES) -> Evaluation:
    """Score a run.

    Args:
        run: query_id -> doc_id -> score. Equal scores (as 32-bit floats) are ordered as trec_eval orders
            them, by descending doc_id.
        qrels: query_id -> doc_id -> grade; grades of 1 and more are relevant.
        measures: names such as `nDCG@10`, `R@100`, `RR@10` or `MRR@100`, `AP`, `P@5`, `Success@5`,
            `Judged@10`, in any case; ir-measures' options go in parentheses: `R(rel=2)@100`.

    Returns:
        Values per query and their means over all judged queries. Measures are named as in `measures`,
        in their usual case.

    Raises:
        InputError: a measure is unknown, a score is not a number, or no query of the run is judged.
    """
    parsed = parse_measures(measures)
    ranked = {query_id: run[query_id] for query_id in qrels if run.get(query_id)}
    if not ranked:
        raise InputError(_nothing_judged(run, qrels))

    import ir_measures

    scorer = ir_measures.evaluator(list(set(parsed.values())), qrels)
    values: dict[tuple[str, Measure], float] = {}
    for metric in scorer.iter_calc(
        {query_id: _trec_order(query_id, ranked[query_id]) for query_id in ranked}
    ):
        values[metric.query_id, metric.measure] = float(metric.value)
    per_query = {
        query_id: {name: values[query_id, measure] for name, measure in parsed.items()} for query_id in qrels
    }
    return _summarise(per_query, run, unjudged=tuple(query_id for query_id in run if query_id not in qrels))


def evaluate_by_language(
    run: Run,
    qrels: Qrels,
    query_languages: Mapping[str, str],
    measures: Sequence[str] = DEFAULT_MEASURES,
) -> LanguageEvaluation:
    """Score a run for each language of its queries.

    Args:
        run: query_id -> doc_id -> score.
        qrels: query_id -> doc_id -> grade.
        query_languages: query_id -> language, for every query of `qrels`.
        measures: as for `evaluate`.

    Returns:
        One evaluation per language and the mean over languages.

    Raises:
        InputError: a judged query has no language, or what `evaluate` raises.
    """
    whole = evaluate(run, qrels, measures)
    languages: dict[str, list[str]] = {}
    for query_id in qrels:
        languages.setdefault(language_of(query_id, query_languages), []).append(query_id)

    unjudged: dict[str, list[str]] = {}
    for query_id in whole.unjudged:
        unjudged.setdefault(query_languages.get(query_id, ""), []).append(query_id)
    by_language = {
        language: _summarise(
            {query_id: whole.per_query[query_id] for query_id in languages[language]},
            run,
            unjudged=tuple(unjudged.get(language, ())),
        )
        for language in sorted(languages)
    }
    return LanguageEvaluation(by_language, _mean([part.mean for part in by_language.values()]))


def trec_ranking(query_id: str, scores: Mapping[str, float]) -> list[str]:
    """The documents of one query in trec_eval's order.

    trec_eval keeps scores as 32-bit floats, sorts them descending, and equal ones by descending doc_id.

    Raises:
        InputError: a score is not a number.
    """
    ranking = sorted(zip(array("f", scores.values()), scores, strict=True), reverse=True)
    if any(score != score for score, _ in ranking):
        raise InputError(f"The run's scores for query {query_id!r} hold one that is not a number (NaN).")
    return [doc_id for _, doc_id in ranking]


def language_of(query_id: str, query_languages: Mapping[str, str]) -> str:
    """The language of a judged query.

    Raises:
        InputError: it has none.
    """
    language = query_languages.get(query_id)
    if not language:
        raise InputError(
            f"Query {query_id!r} is judged but has no language. "
            "Give the file with these queries, with a `lang` field in each."
        )
    return language


def parse_measures(measures: Sequence[str]) -> "dict[str, Measure]":
    """Read names of measures.

    Args:
        measures: as for `evaluate`; one string with several names is split at spaces and commas.

    Returns:
        Name in its usual case -> the measure of ir-measures, without repetitions.

    Raises:
        InputError: a name is unknown or its cutoff is wrong, or there are none.
    """
    names = re.split(r"[\s,]+(?![^(]*\))", measures.strip()) if isinstance(measures, str) else measures
    parsed = dict(_parse_measure(name) for name in names if name)
    if not parsed:
        raise InputError(f"No measure was given. Name some, as in {' '.join(DEFAULT_MEASURES)}.")
    return parsed


@lru_cache(maxsize=256)  # it makes a scorer to try the options, which takes as long as scoring some queries
def _parse_measure(given: str) -> "tuple[str, Measure]":
    """One name in its usual case, and its measure."""
    match = _PATTERN.fullmatch(given)
    name = _CANONICAL.get(match["name"].lower()) if match else None
    if match is None or name is None:
        raise InputError(f"There is no measure {given!r}.{_near(given)} Known are {', '.join(MEASURES)}.")
    cutoff, takes_cutoff = match["cutoff"], MEASURES[name]
    if cutoff is None and takes_cutoff == "required":
        raise InputError(f"Measure {given!r} needs a cutoff, as in {name}@10.")
    if cutoff is not None and takes_cutoff == "none":
        raise InputError(f"Measure {given!r} takes no cutoff. Write {name}.")
    if cutoff is not None and int(cutoff) < 1:
        raise InputError(f"Measure {given!r} has a cutoff below 1. Write, for example, {name}@10.")

    import ir_measures

    spelled = name + (match["options"] or "") + (f"@{int(cutoff)}" if cutoff else "")
    try:
        measure = ir_measures.parse_measure(spelled)
        _scorer([measure], {})  # refuses options that it cannot compute
    except (ValueError, KeyError, AssertionError) as error:
        raise InputError(f"The options of measure {given!r} cannot be used: {error}.") from error
    return spelled, measure


def _scorer(measures: "Iterable[Measure]", qrels: Qrels) -> "Evaluator":
    """trec_eval, and ir-measures' own code for the two measures that trec_eval lacks."""
    from ir_measures import judged, msmarco, pytrec_eval
    from ir_measures.providers import FallbackProvider

    providers = FallbackProvider([pytrec_eval, msmarco, judged])  # type: ignore[no-untyped-call]
    return providers.evaluator(set(measures), qrels)


def _near(given: str) -> str:
    """A sentence that names the known measures nearest to a wrong one, or nothing."""
    stem, at, cutoff = given.partition("@")
    near = difflib.get_close_matches(stem.lower(), _CANONICAL, n=3, cutoff=0.5)
    suggestions = [
        _CANONICAL[name] + (at + cutoff if cutoff.isdigit() and MEASURES[_CANONICAL[name]] != "none" else "")
        for name in near
    ]
    return f" Did you mean {' or '.join(suggestions)}?" if suggestions else ""


def _trec_order(query_id: str, scores: dict[str, float]) -> dict[str, float]:
    """Distinct scores that put documents where trec_eval puts them."""
    ranking = trec_ranking(query_id, scores)
    # Whole numbers are exact in 32 bits up to 16 million documents.
    return {doc_id: float(len(ranking) - position) for position, doc_id in enumerate(ranking)}


def _summarise(per_query: dict[str, dict[str, float]], run: Run, *, unjudged: tuple[str, ...]) -> Evaluation:
    missing = tuple(query_id for query_id in per_query if not run.get(query_id))
    return Evaluation(per_query, _mean(list(per_query.values())), missing, unjudged)


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each measure; the rows have the same measures."""
    return {name: fsum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _nothing_judged(run: Run, qrels: Qrels) -> str:
    if not qrels:
        return "The qrels hold no judgements, so the run cannot be scored."
    if not any(run.values()):
        return "The run ranks no documents, so there is nothing to score."
    return (
        "No query of the run is judged in the qrels. "
        f"The run has {_first_ids(run)}; the qrels have {_first_ids(qrels)}. "
        "Give the qrels of the run's own queries."
    )


def _first_ids(queries: Mapping[str, object]) -> str:
    first = ", ".join(repr(query_id) for query_id in list(queries)[:3])
    return f"{first}, ..." if len(queries) > 3 else first
