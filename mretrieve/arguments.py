"""Arguments and options of the commands, each with its help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mretrieve import types


def _option(*names: str, help: str, metavar: str | None = None) -> typer.models.OptionInfo:
    """An option whose help says what holds by default."""
    info: typer.models.OptionInfo = typer.Option(*names, help=help, metavar=metavar, show_default=False)
    return info


Index = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder written by `mretrieve index`.")]
NewIndex = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder to make.")]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="BEIR folder, .jsonl, .tsv, .csv or .parquet file, folder of .txt and .md files, or `sample`.",
    ),
]
Text = Annotated[str, typer.Argument(metavar="QUERY", help="Text in any language.")]
Queries = Annotated[
    Path, typer.Argument(metavar="QUERIES", help="BEIR queries.jsonl[.gz], or lines of id<TAB>text.")
]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN", help="TREC runs, gzipped or not.")]
Vectors = Annotated[Path, typer.Argument(metavar="OUT.npy", help="File to write.")]

Model = Annotated[
    str | None,
    _option(metavar="MODEL", help="e5-small (the default), a sentence-transformers folder, or a hub id."),
]
SameModel = Annotated[
    str | None, _option(metavar="MODEL", help="New place of the index's own model, where it has moved.")
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the model runs.")]
Dtype = Annotated[
    Literal["auto", "fp32", "bf16", "int8"],
    typer.Option(help="Number type of the model; auto is the fastest that is as good as fp32."),
]
RecipeDtype = Annotated[
    Literal["auto", "fp32", "bf16", "int8"] | None,
    _option(help="Number type of the model; auto (the default) is the fastest that is as good as fp32."),
]
Faiss = Annotated[
    str | None,
    _option(metavar="auto|FACTORY", help="FAISS factory string; auto is exact up to 100,000 documents."),
]
DocumentLang = Annotated[
    str | None,
    _option(metavar="auto|CODE", help="Language of documents whose data name none; detected by default."),
]
Dense = Annotated[bool | None, _option("--dense/--no-dense", help="Make vectors, as by default.")]
Lexical = Annotated[bool | None, _option("--lexical/--no-lexical", help="Make BM25 indexes, as by default.")]
Recipe = Annotated[
    Path | None, _option(metavar="FILE.yaml", help="All choices in a file; options go before it.")
]
OnError = Annotated[Literal["stop", "skip"], typer.Option(help="What to do about unusable documents.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier one of that name.")]

Mode = Annotated[
    types.Mode | None, _option(help="Which legs answer; by default the most that the index allows.")
]
TopK = Annotated[int, typer.Option(metavar="N", help="Documents per query, at most.")]
QueryLang = Annotated[
    str | None,
    _option(metavar="auto|CODE", help="Language of the query, ISO 639-1; detected by default."),
]
Fusion = Annotated[
    str | None,
    _option(
        metavar="METHOD",
        help="How hybrid joins its legs: rrf:K, minmax:W or zscore:W, W the dense leg's weight.",
    ),
]
Run = Annotated[Path, typer.Option(metavar="RUN.trec", help="File to write; .gz packs it.")]
Tag = Annotated[str, typer.Option(metavar="NAME", help="Name of the run.")]

Qrels = Annotated[Path, typer.Option(metavar="QRELS", help="Judgements, TREC or BEIR's tsv.")]
Measures = Annotated[str, typer.Option(metavar="NAMES", help="Names of ir-measures, separated by spaces.")]
LanguagesOf = Annotated[Path | None, _option(metavar="QUERIES", help="The queries, for a table by language.")]
Kind = Annotated[Literal["query", "document"], typer.Option("--as", help="Which prompt the texts get.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare every file with its checksum, however large.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more on stderr, and where errors come from.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mretrieve {version('mretrieve')}")
        raise typer.Exit()


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]
