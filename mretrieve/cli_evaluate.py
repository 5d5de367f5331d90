"""Commands that measure: runs and their differences, fairness, robustness, bitext, and weights learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mretrieve import arguments as take
from mretrieve import report

if TYPE_CHECKING:
    from mretrieve.evaluate.compare import ComparedRuns, Interval
    from mretrieve.evaluate.fairness import Fairness
    from mretrieve.evaluate.measures import Evaluation
    from mretrieve.evaluating import BitextPair
    from mretrieve.rank.tuning import Tuning

app = typer.Typer()


OneRun = Annotated[Path, typer.Argument(metavar="RUN", help="TREC run, gzipped or not.")]
FirstRun = Annotated[Path, typer.Argument(metavar="RUN_A", help="TREC run to start from.")]
SecondRun = Annotated[Path, typer.Argument(metavar="RUN_B", help="TREC run to hold against it.")]
Intervals = Annotated[bool, typer.Option("--intervals", help="Add 95% bootstrap intervals of the means.")]
LanguagesIn = Annotated[
    str,
    typer.Option(
        metavar="SOURCE", help="Collection or index that the run was made of: languages of documents."
    ),
]
Depth = Annotated[int, typer.Option(metavar="N", help="Ranks to look at.")]
OwnLanguages = Annotated[
    Path | None, take.option(metavar="QUERIES", help="The queries, for the share of their own languages.")
]
Variants = Annotated[Path, typer.Argument(metavar="OUT", help="File to write, .jsonl; .gz packs it.")]
VariantKind = Annotated[
    Literal["typo", "romanise", "code-mix", "camouflage"],
    typer.Option(help="Slips, Latin letters, words in another language, or lookalike letters."),
]
Rate = Annotated[
    float | None,
    take.option(
        metavar="X",
        help="Share of words to change; typo 0.2, romanise 1, code-mix and camouflage 0.5 by default.",
    ),
]
Dictionary = Annotated[
    Path | None, take.option(metavar="FILE.tsv", help="For code-mix: lines of word<TAB>translation.")
]
ParallelText = Annotated[
    Path | None, take.option(metavar="FILE", help="For code-mix: parallel text to learn translations from.")
]
Into = Annotated[str, typer.Option(metavar="CODE", help="Language to mix in, of the parallel text.")]
Bitexts = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="Parallel text, .jsonl[.xz]; or with OTHER one sentence a line, gzipped or not."
    ),
]
Other = Annotated[Path | None, typer.Argument(metavar="OTHER", help="Translations, line by line.")]
Pivot = Annotated[
    str, typer.Option("--with", metavar="CODE", help="Language that all others are paired with.")
]
BitextModel = Annotated[
    str, typer.Option(metavar="MODEL", help="e5-small, a sentence-transformers folder, or a hub id.")
]
TuningQueries = Annotated[
    Path, typer.Option(metavar="QUERIES", help="Queries kept for tuning, as `mretrieve run` takes them.")
]
TuningMeasure = Annotated[str, typer.Option(metavar="NAME", help="What is to be high.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Report only, and leave the index as it is.")]


@app.command(epilog="Example: mretrieve evaluate bm25.trec dense.trec --qrels qrels/test.tsv")
def evaluate(
    runs: take.Runs,
    qrels: take.Qrels,
    measures: take.Measures = "nDCG@10 R@100 RR@10 Judged@10",
    queries: take.LanguagesOf = None,
    intervals: Intervals = False,
    as_json: take.AsJson = False,
) -> None:
    """Score runs against judgements, as trec_eval does.

    Judged queries that a run lacks count as 0. Judged@10 is the share of the first ten documents that have
    judgements. With --queries, scores are also given by language.
    """
    from mretrieve.datasets.qrels import read_qrels
    from mretrieve.evaluate.compare import intervals as intervals_of
    from mretrieve.evaluate.measures import evaluate as score
    from mretrieve.evaluate.measures import evaluate_by_language, parse_measures
    from mretrieve.evaluating import read_query_languages, read_run_file

    names = list(parse_measures(measures))
    judgements = read_qrels(qrels)
    languages = read_query_languages(queries) if queries else None
    results: dict[str, dict[str, Any]] = {}
    for path in runs:
        given = read_run_file(path)
        result = score(given.run, judgements, names)
        _tell_of_run(path, result, given.duplicates)
        results[str(path)] = one = result.to_dict() | {"duplicates": given.duplicates}
        if languages is not None:
            by_language = evaluate_by_language(given.run, judgements, languages, names).to_dict()
            one["mean_of_languages"] = by_language["mean"]
            one["languages"] = by_language["languages"]
        if intervals:
            _add_intervals(one, intervals_of(result, query_languages=languages))
    if as_json:
        report.write_json(results)
    else:
        columns = [f"{name}{end}" for name in names for end in (("", *_ENDS) if intervals else ("",))]
        report.write(report.format_scores(results, columns))


_ENDS = (" low", " high")


def _tell_of_run(path: Path, result: "Evaluation", duplicates: int) -> None:
    """Say what of a run does not count as one might think."""
    if n := len(result.missing):
        report.tell(f"{path}: {report.count(n, 'judged query')} not in the run, counted as 0.")
    if n := len(result.unjudged):
        report.tell(f"{path}: {report.count(n, 'query')} without judgements, left out.")
    if duplicates:
        lines = report.count(duplicates, "line")
        report.tell(f"{path}: {lines} with a document ranked before for its query; its best score counts.")


def _add_intervals(one: dict[str, Any], found: Mapping[str, Mapping[str, "Interval"]]) -> None:
    """Put the ends of the intervals beside the means, under names of their own."""
    from mretrieve.evaluate.compare import ALL_QUERIES, MEAN_OF_LANGUAGES

    means = {ALL_QUERIES: one["mean"], MEAN_OF_LANGUAGES: one.get("mean_of_languages")}
    means |= {lang: part["mean"] for lang, part in one.get("languages", {}).items()}
    for label, by_measure in found.items():
        for name, interval in by_measure.items():
            means[label][f"{name} low"], means[label][f"{name} high"] = interval.low, interval.high


@app.command(
    short_help="Say which of two runs is better, and whether that may be chance.",
    epilog="Example: mretrieve compare bm25.trec hybrid.trec --qrels dev.tsv --queries queries.jsonl",
)
def compare(
    first: FirstRun,
    second: SecondRun,
    qrels: take.Qrels,
    measures: take.Measures = "nDCG@10",
    queries: take.LanguagesOf = None,
    seed: take.Seed = 13,
    as_json: take.AsJson = False,
) -> None:
    """Say which of two runs is better, and whether that may be chance.

    Differences come with a 95% bootstrap interval and the p-value of a paired randomisation test over the
    queries. With --queries there is a row for each language, whose p-values are corrected for their number
    (Holm), and one in which each language counts once.
    """
    from mretrieve.datasets.qrels import read_qrels
    from mretrieve.evaluate.compare import compare_runs
    from mretrieve.evaluate.measures import evaluate as score
    from mretrieve.evaluate.measures import parse_measures
    from mretrieve.evaluating import read_query_languages, read_run_file

    names = list(parse_measures(measures))
    judgements = read_qrels(qrels)
    languages = read_query_languages(queries) if queries else None
    files = [read_run_file(path) for path in (first, second)]
    for path, given in zip((first, second), files, strict=True):
        _tell_of_run(path, score(given.run, judgements, names), given.duplicates)
    one, other = (given.run for given in files)
    rows = compare_runs(one, other, judgements, names, query_languages=languages, seed=seed)
    if as_json:
        report.write_json(
            {"first": str(first), "second": str(second), "rows": [row.to_dict() for row in rows]}
        )
    else:
        report.write(_compared(rows, first, second))


def _compared(rows: "Sequence[ComparedRuns]", first: Path, second: Path) -> str:
    names = [path.name if first.name != second.name else str(path) for path in (first, second)]
    header = ["measure", "queries of", "queries", *names, "difference", "95% from", "to", "p", "p (Holm)"]
    cells = [
        [row.measure, row.language, str(row.queries), f"{row.first:.4f}", f"{row.second:.4f}"]
        + [f"{value:+.4f}" for value in (row.difference, row.low, row.high)]
        + [f"{row.p_value:.4f}", f"{row.p_holm:.4f}", str(row.better), str(row.worse)]
        for row in rows
    ]
    return report.table([*header, "better", "worse"], cells)


@app.command(
    short_help="Say whether a run favours some languages of its documents.",
    epilog="Example: mretrieve fairness dense.trec --qrels qrels/test.tsv --languages corpus.jsonl",
)
def fairness(
    run: OneRun,
    qrels: take.Qrels,
    languages: LanguagesIn,
    queries: OwnLanguages = None,
    depth: Depth = 100,
    as_json: take.AsJson = False,
) -> None:
    """Say whether a run favours some languages of its documents.

    Each language's share of the hits is held against its share of the relevant documents: of the first
    hits, of the first ten, of all hits as a reader sees them, and of the first k in the mean over k (auc;
    --json has the curves). PEER is the probability that equally relevant documents of all languages can
    expect the same rank (Yang et al., 2024).
    """
    from mretrieve.datasets.qrels import read_qrels
    from mretrieve.evaluate.fairness import language_fairness
    from mretrieve.evaluating import (
        documents_of,
        read_document_languages,
        read_query_languages,
        read_run_file,
    )

    judgements = read_qrels(qrels)
    given = read_run_file(run)
    asked = read_query_languages(queries) if queries else None
    known = read_document_languages(languages, documents_of(given.run, judgements))
    result = language_fairness(given.run, judgements, known, query_languages=asked, depth=depth)
    if result.missing:
        report.tell(f"{run}: {report.count(result.missing, 'judged query')} not in the run.")
    if as_json:
        report.write_json(result.to_dict())
    else:
        report.write(_fairness(result))


def _fairness(result: "Fairness") -> str:
    rows = [
        [one.language, *(f"{value:.4f}" for value in (one.relevant, one.first, one.first_hits, one.exposure))]
        + [f"{one.bias:+.4f}", f"{one.auc:.4f}"]
        for one in (*result.languages, *([result.own_language] if result.own_language else []))
    ]
    header = ["language", "relevant", "first hit", "first 10", "exposure", "bias", "auc"]
    heads = [f"PEER@{result.depth}", "language bias"]
    values = [f"{result.peer:.4f}", f"{result.language_bias:.4f}"]
    summary = report.table(["queries", *heads], [[str(result.queries), *values]])
    return summary + "\n\n" + report.table(header, rows)


@app.command(
    short_help="Make variants of queries: typos, Latin letters, disguises.",
    epilog="Example: mretrieve perturb queries.jsonl typos.jsonl --kind typo --rate 0.2 --seed 1",
)
def perturb(
    queries: take.Queries,
    output: Variants,
    kind: VariantKind,
    rate: Rate = None,
    seed: take.Seed = 13,
    dictionary: Dictionary = None,
    parallel: ParallelText = None,
    into: Into = "en",
    overwrite: take.Overwrite = False,
) -> None:
    """Make variants of queries, to see what a search makes of them.

    The ids stay, so the qrels of the queries hold for the variants. The same seed gives the same variants.
    """
    from mretrieve.datasets.queries import read_queries
    from mretrieve.evaluate.perturb import perturb as make
    from mretrieve.evaluating import read_dictionaries, write_queries
    from mretrieve.rank.queries import with_languages

    given = read_queries(queries)
    dictionaries = None
    if kind == "code-mix":
        given = with_languages(given)
        known = {query.lang for query in given if query.lang}
        dictionaries = read_dictionaries(known, into=into, dictionary=dictionary, parallel=parallel)
    made = make(given, kind, rate=rate, seed=seed, dictionaries=dictionaries)
    write_queries(output, made.queries, overwrite=overwrite)
    total = report.count(len(made.queries), "query")
    report.tell(f"{output}: {total}, {made.changed:,} of them changed")


@app.command(
    short_help="Measure how well sentences find their translations.",
    epilog="Example: mretrieve bitext ntrex-128.jsonl.xz --langs de,sw,th --rows 500",
)
def bitext(
    path: Bitexts,
    other: Other = None,
    model: BitextModel = "e5-small",
    langs: take.Langs = None,
    pivot: Pivot = "en",
    rows: take.Rows = None,
    device: take.Device = "auto",
    dtype: take.Dtype = "auto",
    as_json: take.AsJson = False,
) -> None:
    """Measure how well sentences find their translations among all sentences, both ways.

    Accuracy is the share found first by cosine, as with Tatoeba; xsim is the share missed by margin, as in
    LASER. → is from the first language into the second, ← the other way.
    """
    from mretrieve.evaluating import measure_bitext, read_bitext
    from mretrieve.progress import progress

    chosen = None if langs is None else [code.strip() for code in langs.split(",") if code.strip()]
    texts = read_bitext(path, other, langs=chosen, pivot=pivot, limit=rows)
    middle = list(texts)[-1] if other is not None else list(texts)[0]
    with progress() as on_progress:
        pairs = measure_bitext(
            model, texts, pivot=middle, device=device, dtype=dtype, on_progress=on_progress
        )
    if as_json:
        report.write_json([pair.to_dict() for pair in pairs])
    else:
        report.write(_bitext(pairs))


def _bitext(pairs: "Sequence[BitextPair]") -> str:
    header = ["first", "second", "sentences", "accuracy", "→", "←", "xsim", "→", "←"]
    rows = [
        [pair.first, pair.second, str(pair.result.sentences)]
        + [f"{value:.4f}" for value in (pair.result.accuracy, pair.result.forward, pair.result.backward)]
        + [f"{v:.4f}" for v in (pair.result.xsim, pair.result.xsim_forward, pair.result.xsim_backward)]
        for pair in pairs
    ]
    if len(pairs) > 1:
        means = [
            sum(getattr(pair.result, name) for pair in pairs) / len(pairs)
            for name in ("accuracy", "forward", "backward", "xsim", "xsim_forward", "xsim_backward")
        ]
        rows.append(["mean", "", "", *(f"{mean:.4f}" for mean in means)])
    return report.table(header, rows)


@app.command(
    short_help="Learn for each language how an index joins vectors and words.",
    epilog="Example: mretrieve tune my-index --queries queries.jsonl --qrels qrels/dev.tsv",
)
def tune(
    index: take.Index,
    queries: TuningQueries,
    qrels: take.Qrels,
    measure: TuningMeasure = "nDCG@10",
    dry_run: DryRun = False,
    model: take.SameModel = None,
    device: take.Device = "auto",
    dtype: take.Dtype = "auto",
    as_json: take.AsJson = False,
) -> None:
    """Learn for each language how an index joins vectors and words, from judged queries kept for tuning.

    The weights are kept in the index, and hybrid searches use them unless --fusion says otherwise. Weights
    learned from the queries of a test make its scores worthless: give others.
    """
    from mretrieve.datasets.qrels import read_qrels
    from mretrieve.datasets.queries import read_queries
    from mretrieve.progress import progress
    from mretrieve.rank.retriever import Retriever
    from mretrieve.rank.tune import LEAST_QUERIES
    from mretrieve.rank.tune import tune as learn
    from mretrieve.rank.tuning import write_tuning

    if qrels.name.startswith("test"):
        report.tell(f"{qrels} looks like a test, whose scores mean nothing after learning from it.")
    asked, judgements = read_queries(queries), read_qrels(qrels)
    retriever = Retriever(index, model=model, device=device, dtype=dtype)
    with progress() as on_progress:
        tuning = learn(retriever, asked, judgements, measure=measure, on_progress=on_progress)
    if not tuning.languages:
        report.tell(f"No language has {LEAST_QUERIES} judged queries, so nothing was learned.")
    elif not dry_run:
        write_tuning(retriever.index.path, tuning)
    if as_json:
        report.write_json(tuning.to_dict())
    elif tuning.languages:
        report.write(_tuned(tuning))


def _tuned(tuning: "Tuning") -> str:
    rows = [
        [lang, str(one.queries), one.fusion]
        + [f"{value:.4f}" for value in (one.dense, one.bm25, one.before, one.after)]
        for lang, one in tuning.languages.items()
    ]
    header = ["language", "queries", "fusion", "dense", "bm25", f"{tuning.measure} before", "after"]
    return report.table(header, rows)
