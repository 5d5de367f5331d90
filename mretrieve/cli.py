"""The command line: parse, call the library, report."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.types import Mode

app = typer.Typer(
    name="mretrieve",
    help="Find passages by meaning in any language.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "fp32", "bf16", "int8"]
OnError = Literal["stop", "skip"]
Kind = Literal["query", "document"]

_INDEX = typer.Argument(metavar="INDEX", help="Folder written by `mretrieve index`.")
_SOURCE = typer.Argument(
    metavar="SOURCE",
    help="BEIR folder, .jsonl, .tsv, .csv or .parquet file, folder of .txt and .md files, or `sample`.",
)
_MODEL = typer.Option(help="e5-small, a sentence-transformers folder, or a hub id.", show_default=False)
_DEVICE = typer.Option(help="Where the model runs.")
_DTYPE = typer.Option(help="Number type of the model; auto is the fastest that is as good as fp32.")
_MODE = typer.Option(help="Which legs answer; by default the most that the index allows.", show_default=False)
_LANG = typer.Option(help="Language of the queries, ISO 639-1; detected by default.", show_default=False)
_FUSION = typer.Option(
    help="How hybrid joins its legs: rrf:K, minmax:W or zscore:W, W the dense leg's weight.",
    show_default=False,
)
_JSON = typer.Option("--json", help="Print JSON.")


@app.command()
def index(
    source: Annotated[str, _SOURCE],
    path: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder to make.")],
    model: Annotated[str | None, _MODEL] = None,
    faiss: Annotated[
        str | None, typer.Option(metavar="auto|FACTORY", help="FAISS factory string.", show_default=False)
    ] = None,
    lang: Annotated[
        str | None,
        typer.Option(
            metavar="auto|CODE",
            help="Language of documents whose data name none; detected by default.",
            show_default=False,
        ),
    ] = None,
    dense: Annotated[
        bool | None, typer.Option("--dense/--no-dense", help="Make vectors.", show_default=False)
    ] = None,
    lexical: Annotated[
        bool | None, typer.Option("--lexical/--no-lexical", help="Make BM25 indexes.", show_default=False)
    ] = None,
    device: Annotated[Device, _DEVICE] = "auto",
    dtype: Annotated[Dtype | None, _DTYPE] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="All choices in a file; options go before it."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an index of that name.")] = False,
    on_error: Annotated[OnError, typer.Option(help="What to do about unusable documents.")] = "stop",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Build an index of a collection.

    Interrupted builds go on where they stopped when the same command is given again. An index that is
    replaced with --overwrite stays in use until the new one is complete.
    """
    from mretrieve.indexing import build_index
    from mretrieve.recipe import Recipe, read_recipe

    choices = _with_options(
        read_recipe(recipe) if recipe else Recipe(),
        model=model,
        faiss=faiss,
        lang=lang,
        dense=dense,
        lexical=_lucene_or_not(lexical, recipe is not None),
        dtype=dtype,
    )
    with _stages() as on_progress:
        report = build_index(
            source,
            path,
            recipe=choices,
            device=device,
            overwrite=overwrite,
            on_error=on_error,
            on_progress=on_progress,
        )
    if report.source.skipped.total:
        _tell(f"Skipped: {report.source.skipped}")
    manifest = report.manifest
    if as_json:
        _print_json({"index": str(path), "documents": manifest.documents, "bytes": manifest.n_bytes})
    else:
        _print(f"{path}: {manifest.documents:,} documents in {len(manifest.languages)} languages")


@app.command()
def search(
    path: Annotated[Path, _INDEX],
    query: Annotated[str, typer.Argument(metavar='"QUERY"', help="Text in any language.")],
    mode: Annotated[Mode | None, _MODE] = None,
    top_k: Annotated[int, typer.Option(help="Hits to show.")] = 10,
    lang: Annotated[str | None, _LANG] = None,
    model: Annotated[str | None, _MODEL] = None,
    device: Annotated[Device, _DEVICE] = "auto",
    fusion: Annotated[str | None, _FUSION] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Find the passages that answer a query."""
    from mretrieve.rank.retriever import Retriever

    retriever = Retriever(path, model=model, device=device, fusion=fusion)
    hits = retriever.search(query, top_k=top_k, mode=mode, lang=lang)
    if as_json:
        _print_json([hit.to_dict() for hit in hits])
        return
    if not hits:
        _tell("Nothing found.")
    for hit in hits:
        _print(f"{hit.rank:>3}  {hit.doc_id}  [{hit.lang}]  {_scores(hit)}")
        if hit.title:
            _print(f"     {hit.title}")
        _print(f"     {_shorten(hit.text)}")


@app.command()
def run(
    path: Annotated[Path, _INDEX],
    queries: Annotated[
        Path,
        typer.Argument(metavar="QUERIES", help="BEIR queries.jsonl[.gz], or lines of id<TAB>text."),
    ],
    output: Annotated[Path, typer.Option(metavar="RUN.trec", help="File to write; .gz packs it.")],
    mode: Annotated[Mode | None, _MODE] = None,
    top_k: Annotated[int, typer.Option(help="Documents per query.")] = 100,
    lang: Annotated[str | None, _LANG] = None,
    tag: Annotated[str, typer.Option(metavar="NAME", help="Name of the run.")] = "mretrieve",
    model: Annotated[str | None, _MODEL] = None,
    device: Annotated[Device, _DEVICE] = "auto",
    dtype: Annotated[Dtype, _DTYPE] = "auto",
    fusion: Annotated[str | None, _FUSION] = None,
) -> None:
    """Rank the documents of an index for each query, in TREC format."""
    from dataclasses import replace

    from mretrieve.datasets.queries import read_queries
    from mretrieve.datasets.runs import write_run
    from mretrieve.rank.retriever import Retriever

    topics = read_queries(queries)
    if lang:
        topics = [replace(topic, lang=lang) for topic in topics]
    retriever = Retriever(path, model=model, device=device, dtype=dtype, fusion=fusion)

    def rankings(advance: Callable[[int], None]) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        for start in range(0, len(topics), QUERIES_AT_ONCE):
            batch = topics[start : start + QUERIES_AT_ONCE]
            ranked = retriever.rank(batch, top_k=top_k, mode=mode)
            for topic, one in zip(batch, ranked, strict=True):
                ids = retriever.doc_ids(one.ranking)
                yield topic.query_id, list(zip(ids, one.ranking.scores.tolist(), strict=True))
            advance(len(batch))

    with _bar("queries", len(topics)) as advance:
        n_rows = write_run(output, rankings(advance), tag)
    _tell(f"{output}: {n_rows:,} rows for {len(topics):,} queries")


QUERIES_AT_ONCE = 2048
"""Queries ranked together: enough for full batches, few enough that their rankings fit in memory."""


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="TREC runs, gzipped or not.")],
    qrels: Annotated[Path, typer.Option(help="Judgements, TREC or BEIR's tsv.")],
    measures: Annotated[
        str, typer.Option(help="Names of ir-measures, separated by spaces.")
    ] = "nDCG@10 R@100 RR@10",
    queries: Annotated[
        Path | None,
        typer.Option(help="The queries, for a table by language.", show_default=False),
    ] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Score runs against judgements, as trec_eval does.

    Judged queries that a run lacks count as 0. With --queries, scores are also given by language.
    """
    from mretrieve.datasets.qrels import read_qrels
    from mretrieve.datasets.runs import read_run
    from mretrieve.evaluate.measures import evaluate as score
    from mretrieve.evaluate.measures import evaluate_by_language, parse_measures

    names = list(parse_measures([measures]))
    judgements = read_qrels(qrels)
    languages = _query_languages(queries) if queries else None
    results: dict[str, Any] = {}
    rows: list[list[str]] = []
    for path in runs:
        scored = read_run(path)
        result = score(scored, judgements, names)
        results[str(path)] = result.to_dict()
        if result.missing:
            _tell(f"{path}: {len(result.missing):,} judged queries are not in the run and count as 0.")
        if result.unjudged:
            _tell(f"{path}: {len(result.unjudged):,} queries of the run have no judgement; left out.")
        label = path.name
        if languages is not None:
            table = evaluate_by_language(scored, judgements, languages, names)
            results[str(path)] = {**result.to_dict(), **table.to_dict()}
            for lang, one in table.by_language.items():
                rows.append([label, lang, str(one.n_queries), *(f"{one.mean[name]:.4f}" for name in names)])
            means = [f"{table.mean[name]:.4f}" for name in names]
            rows.append([label, "mean", "", *means])
        all_means = [f"{result.mean[name]:.4f}" for name in names]
        rows.append([label, "all", str(result.n_queries), *all_means])
    if as_json:
        _print_json(results)
    else:
        _print_table(["run", "queries of", "queries", *names], rows)


@app.command()
def encode(
    source: Annotated[str, _SOURCE],
    output: Annotated[Path, typer.Argument(metavar="OUT.npy", help="File to write.")],
    kind: Annotated[Kind, typer.Option("--as", help="Which prompt the texts get.")],
    model: Annotated[str, _MODEL] = "e5-small",
    device: Annotated[Device, _DEVICE] = "auto",
    dtype: Annotated[Dtype, _DTYPE] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Embed texts: float32 unit vectors, one row per text, in NumPy's format.

    OUT.ids.txt gets the ids in the same order. With --as query, SOURCE may also be a file of queries.
    Interrupted work goes on where it stopped when the same command is given again.
    """
    from mretrieve.encode.encoder import Encoder
    from mretrieve.encoding import encode_to_file

    encoder = Encoder(model, device=device, dtype=dtype)
    with _stages() as on_progress:
        shape = encode_to_file(
            encoder, source, output, queries=kind == "query", overwrite=overwrite, on_progress=on_progress
        )
    _tell(f"{output}: {shape[0]:,} vectors of {shape[1]} dimensions")


@app.command()
def info(
    path: Annotated[Path, _INDEX],
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every file with its checksum, however large.")
    ] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Say what an index holds and how it was built."""
    from dataclasses import asdict

    from mretrieve.index.open import open_index
    from mretrieve.index.open import verify as verify_index

    manifest = verify_index(path) if verify else open_index(path).manifest
    java = _java()
    if as_json:
        _print_json({**asdict(manifest), "java": java, "verified": verify})
        return
    encoder, dense = manifest.encoder, manifest.dense
    rows = [["documents", f"{manifest.documents:,}"], ["size", f"{manifest.n_bytes / 1e6:,.1f} MB"]]
    if encoder is not None and dense is not None:
        rows.append(["model", f"{encoder.model} ({encoder.fingerprint}, {encoder.dtype})"])
        rows.append(["dense", f"{dense.factory}, {encoder.dim} dimensions {dense.search}".rstrip()])
    else:
        rows.append(["dense", "none"])
    ranking = manifest.ranking
    if any(entry.analyzer for entry in manifest.languages.values()):
        rows += [["bm25", f"k1 {ranking.k1:g}, b {ranking.b:g}"], ["java", java]]
    else:
        rows.append(["bm25", "none"])
    rows.append(["fusion", ranking.fusion])
    rows.append(["built", f"{manifest.built.at} by mretrieve {manifest.built.mretrieve}"])
    if verify:
        rows.append(["verified", f"all {len(manifest.files)} files"])
    _print_table(["", str(path)], rows)
    languages = sorted(manifest.languages.items(), key=lambda item: -item[1].documents)
    _print_table(
        ["language", "documents", "analyzer"],
        [[lang, f"{entry.documents:,}", entry.analyzer or "none"] for lang, entry in languages],
    )


def main() -> None:
    """Run the command line: errors of the user's end in one sentence and status 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        app()
    except (InputError, MissingDependencyError) as error:
        _tell(f"Error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        _tell("Stopped. The same command goes on from here.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has seen enough; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _with_options(
    recipe: Any,
    *,
    model: str | None,
    faiss: str | None,
    lang: str | None,
    dense: bool | None,
    lexical: bool | None,
    dtype: Dtype | None,
) -> Any:
    from mretrieve.recipe import Bm25Part, EncoderPart, FaissPart

    change: dict[str, Any] = {}
    encoder = recipe.encoder
    if dense is False:
        encoder = None
    elif dense is True and encoder is None:
        encoder = EncoderPart()
    if encoder is not None and model is not None:
        encoder = EncoderPart(model=model, dtype=encoder.dtype)
    if encoder is not None and dtype is not None:
        encoder = encoder.model_copy(update={"dtype": dtype})
    change["encoder"] = encoder
    if faiss is not None:
        change["faiss"] = FaissPart(factory=faiss)
    if lang is not None:
        change["lang"] = lang
    if lexical is not None:
        change["bm25"] = (recipe.bm25 or Bm25Part()) if lexical else None
    return recipe.model_copy(update=change)


def _lucene_or_not(lexical: bool | None, in_recipe: bool) -> bool | None:
    """Leave BM25 out, with a word, where nobody asked for it and Lucene is not installed."""
    if lexical is not None or in_recipe:
        return lexical
    from mretrieve.index.jvm import find_all

    try:
        find_all()
    except MissingDependencyError as error:
        _tell(f"Without BM25: {error}")
        return False
    return None


def _java() -> str:
    from mretrieve.index.jvm import java_description

    try:
        return java_description()
    except MissingDependencyError as error:
        return str(error)


def _query_languages(path: Path) -> dict[str, str]:
    from mretrieve.datasets.queries import read_queries
    from mretrieve.languages import detect_languages

    queries = read_queries(path)
    found = iter(detect_languages([query.text for query in queries if not query.lang]))
    return {query.query_id: query.lang or next(found) or "und" for query in queries}


def _scores(hit: Any) -> str:
    parts = [f"{hit.score:.4f}"]
    for name in ("dense", "bm25"):
        rank, score = getattr(hit, f"{name}_rank"), getattr(hit, f"{name}_score")
        if rank is not None:
            parts.append(f"{name} {score:.3f} (#{rank})")
    return "  ".join(parts)


def _shorten(text: str, width: int = 300) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1].rstrip() + "…"


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int | None], None]]:
    """Progress of several stages on stderr, one bar each."""
    with _progress() as progress:
        tasks: dict[str, Any] = {}

        def on_progress(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield on_progress


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    with _progress() as progress:
        task = progress.add_task(name, total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def _progress() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )

    class WithRate(Progress):
        def get_renderables(self) -> Iterator[Any]:
            for task in self.tasks:
                speed = task.finished_speed or task.speed
                task.fields["rate"] = f"{speed:,.0f}/s" if speed else ""
            yield self.make_tasks_table(self.tasks)

    console = Console(stderr=True)
    with WithRate(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


def _tell(message: str) -> None:
    typer.echo(message, err=True)


def _print(text: str) -> None:
    typer.echo(text)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        cells = [
            cell.ljust(width) if column == 0 or not cell[:1].isdigit() else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


if __name__ == "__main__":
    main()
