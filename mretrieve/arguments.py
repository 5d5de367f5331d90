"""Arguments and options of the commands, each with its help."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from mretrieve import types


def option(
    *names: str, help: str, metavar: str | None = None, min: int | None = None, max: int | None = None
) -> typer.models.OptionInfo:
    """An option whose help says what holds by default."""
    info: typer.models.OptionInfo = typer.Option(
        *names, help=help, metavar=metavar, min=min, max=max, show_default=False
    )
    return info


Index = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder written by `mretrieve index`.")]
NewIndex = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder to make.")]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="BEIR folder, .jsonl, .tsv, .csv or .parquet file, folder of .txt and .md files, `sample`, or "
        "an address such as miracl/sw.",
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
    option(metavar="MODEL", help="e5-small (the default), a sentence-transformers folder, or a hub id."),
]
SameModel = Annotated[
    str | None, option(metavar="MODEL", help="New place of the index's own model, where it has moved.")
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the model runs.")]
Ray = Annotated[
    str | None,
    option(
        metavar="[ADDRESS]",
        help="Encode on many workers, by Ray: of this machine (without ADDRESS, then put it last), or of the "
        "cluster HOST:PORT, ray://HOST:PORT or `auto`, where each machine needs this version of mretrieve, "
        "and the model under the same name.",
    ),
]
RayCores = Annotated[
    int | None,
    option(metavar="N", help="CPU cores per worker of Ray; up to 4 by default. On GPUs, one worker each."),
]
Dtype = Annotated[
    Literal["auto", "fp32", "bf16", "int8"],
    typer.Option(help="Number type of the model; auto is the fastest that is as good as fp32."),
]
RecipeDtype = Annotated[
    Literal["auto", "fp32", "bf16", "int8"] | None,
    option(help="Number type of the model; auto (the default) is the fastest that is as good as fp32."),
]
Faiss = Annotated[
    str | None,
    option(
        metavar="auto|small|FACTORY",
        help="FAISS factory string; auto is exact up to 100,000 documents, small needs an eighth of it.",
    ),
]
DocumentLang = Annotated[
    str | None,
    option(metavar="auto|CODE", help="Language of documents whose data name none; detected by default."),
]
Dense = Annotated[bool | None, option("--dense/--no-dense", help="Make vectors, as by default.")]
Lexical = Annotated[bool | None, option("--lexical/--no-lexical", help="Make BM25 indexes, as by default.")]
Bm25Terms = Annotated[
    Literal["auto", "analyzer", "pieces", "both"] | None,
    option(
        help="What BM25 goes by: each language's analyzer, pieces of a multilingual vocabulary, or both "
        "scores' sum; auto is what was best for the language."
    ),
]
Recipe = Annotated[
    Path | None, option(metavar="FILE.yaml", help="All choices in a file; options go before it.")
]
OnError = Annotated[Literal["stop", "skip"], typer.Option(help="What to do about unusable documents.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier one of that name.")]

Mode = Annotated[
    types.Mode | None, option(help="Which legs answer; by default the most that the index allows.")
]
TopK = Annotated[int, typer.Option(metavar="N", help="Documents per query, at most.")]
QueryLang = Annotated[
    str | None,
    option(metavar="auto|CODE", help="Language of the query, ISO 639-1; detected by default."),
]
Rerank = Annotated[
    str | None,
    option(metavar="MODEL", help="Cross-encoder that orders the best hits anew; folder or hub id."),
]
Fusion = Annotated[
    str | None,
    option(
        metavar="METHOD",
        help="How hybrid joins its legs: rrf:K, minmax:W or zscore:W, W the dense leg's weight.",
    ),
]
Run = Annotated[Path, typer.Option(metavar="RUN.trec", help="File to write; .gz packs it.")]
Tag = Annotated[str, typer.Option(metavar="NAME", help="Name of the run.")]

Qrels = Annotated[Path, typer.Option(metavar="QRELS", help="Judgements, TREC or BEIR's tsv.")]
Measures = Annotated[str, typer.Option(metavar="NAMES", help="Names of ir-measures, separated by spaces.")]
LanguagesOf = Annotated[Path | None, option(metavar="QUERIES", help="The queries, for a table by language.")]
Kind = Annotated[Literal["query", "document"], typer.Option("--as", help="Which prompt the texts get.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare every file with its checksum, however large.")
]
Base = Annotated[
    str,
    typer.Argument(metavar="BASE", help="Dense model: e5-small, a folder, or a hub id (BERT or NomicBert)."),
]
AnyModel = Annotated[
    str, typer.Argument(metavar="MODEL", help="e5-small, a sentence-transformers folder, or a hub id.")
]
NewModel = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")]
NewGraph = Annotated[Path, typer.Argument(metavar="OUT.onnx", help="File to write.")]
Experts = Annotated[int, typer.Option(metavar="N", help="Experts in each sparse layer.")]
ExpertsPerToken = Annotated[int, typer.Option(metavar="N", help="Experts that a token passes through.")]
Every = Annotated[int, typer.Option(metavar="N", help="Every how many layers have experts; 1 for all.")]
Last = Annotated[int | None, option(metavar="N", help="Experts only among the last N layers.")]
Way = Annotated[
    Literal["exact", "nomic"], typer.Option(help="Keep the base's embeddings, or do as contrastors.")
]
Router = Annotated[str, typer.Option(metavar="NAME", help="How tokens find their experts.")]
RouterLanguages = Annotated[
    str | None, option("--languages", metavar="CODES", help="Languages of the router `language`, by commas.")
]
Noise = Annotated[
    float, typer.Option(metavar="X", help="Noise on the copies, as a part of their own spread.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="Of everything that is random.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Store and multiply the weights in 8 bits.")]
Opset = Annotated[int, typer.Option(metavar="N", help="Version of the ONNX operators.")]
Parallel = Annotated[
    Path,
    typer.Option(
        metavar="FILE", help="Parallel text: .jsonl[.xz], one sentence a row, a field per language."
    ),
]
Report = Annotated[Path, typer.Option(metavar="FOLDER", help="Report to write.")]
Langs = Annotated[str | None, option(metavar="CODES", help="Languages, separated by commas; all by default.")]
KeptLangs = Annotated[
    str, typer.Option("--langs", metavar="CODES", help="Languages to keep, separated by commas.")
]
Rows = Annotated[int | None, option(metavar="N", help="Sentences to read, at most; all by default.")]
KeptExperts = Annotated[
    int | None, option(metavar="N", help="Experts to keep in each sparse layer; all by default.")
]
TrimVocab = Annotated[bool, typer.Option("--trim-vocab", help="Keep only the pieces that the languages use.")]
SampleTexts = Annotated[
    list[str] | None,
    option(
        "--data",
        metavar="SOURCE",
        help="Text of these languages, by which experts and pieces are chosen: parallel text or documents "
        "with their language; may be given many times.",
    ),
]
TestText = Annotated[
    Path | None,
    option("--test", metavar="FILE", help="Parallel text on which to compare both models; none by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more on stderr, and where errors come from.")
]


class MayStandAlone(TyperCommand):
    """A command whose option --ray may stand without its value, which Typer has no way to say."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give the value `local` to a --ray that comes last or before another option."""
        given = []
        for argument, following in zip(args, [*args[1:], "-"], strict=True):
            alone = argument == "--ray" and following.startswith("-")
            given.append("--ray=local" if alone else argument)
        return super().parse_args(ctx, given)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mretrieve {version('mretrieve')}")
        raise typer.Exit()


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]
