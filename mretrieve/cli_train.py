"""Commands that train models and prepare what they are trained on."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mretrieve import arguments as take
from mretrieve import report

app = typer.Typer()

Recipe = Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="Training recipe; see `training/`.")]
RunFolder = Annotated[
    Path | None,
    take.option("--run", metavar="FOLDER", help="Where all goes; training/runs/NAME by default."),
]
Smoke = Annotated[bool, typer.Option("--smoke", help="Run the recipe's small version, a few steps.")]
Folder = Annotated[
    str, typer.Argument(metavar="SOURCE", help="BEIR folder: documents, queries and judgements.")
]
Triples = Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="File to write; .gz packs it.")]
PoolIndex = Annotated[
    Path | None,
    take.option(
        "--index",
        metavar="INDEX",
        help="Where to look for negatives; by default OUT.index, built of SOURCE if it is not there.",
    ),
]
Also = Annotated[
    list[str] | None,
    take.option(metavar="SOURCE", help="Another folder that OUT.index is built of; may be given many times."),
]
AnySplit = Annotated[bool, typer.Option("--any-split", help="Allow judgements that are not for training.")]
Split = Annotated[str, typer.Option(metavar="NAME", help="Judgements: the file qrels/NAME.tsv.")]
Candidates = Annotated[int, typer.Option(metavar="N", help="Documents retrieved per query.")]
PerQuery = Annotated[int, typer.Option(metavar="N", help="Negatives per query.")]
MaxRatio = Annotated[
    float, typer.Option(metavar="X", help="Drop negatives that score above this part of the positive.")
]
OtherLanguages = Annotated[
    float, typer.Option(metavar="X", help="Share of negatives in other languages than the query's.")
]
Strategy = Annotated[
    Literal["top", "random", "top1+random"], typer.Option(help="Which of the candidates left are taken.")
]
Reranker = Annotated[
    str | None,
    take.option(metavar="MODEL", help="Cross-encoder that checks what is left."),
]
To = Annotated[str, typer.Option("--to", metavar="CODES", help="Target languages, separated by commas.")]
Engine = Annotated[
    str,
    typer.Option(metavar="NAME", help="apertium, parallel:FILE, or a translation model's hub id or folder."),
]
Translated = Annotated[Path, typer.Argument(metavar="OUT", help="Folder or file to make.")]
From = Annotated[
    str | None,
    take.option("--from", metavar="CODES", help="Source languages; all that the engine knows by default."),
]
OnlySplit = Annotated[
    str | None,
    take.option("--split", metavar="NAME", help="Only what qrels/NAME.tsv names."),
]
Across = Annotated[
    bool, typer.Option("--across", help="Judge questions of each language with documents of each other one.")
]
Evaluation = Annotated[
    bool, typer.Option("--evaluation", help="Translate data for evaluation, never to be trained on.")
]
Cache = Annotated[Path | None, take.option(metavar="FILE", help="Where translations are kept.")]
Beams = Annotated[int, typer.Option(metavar="N", help="Hypotheses that a translation model follows.")]
Only = Annotated[Literal["all", "documents", "queries"], typer.Option(help="What is translated.")]


@app.command(epilog="Example: mretrieve train training/moe-small.yaml")
def train(
    recipe: Recipe,
    run: RunFolder = None,
    smoke: Smoke = False,
    device: take.Device = "auto",
    as_json: take.AsJson = False,
) -> None:
    """Run a training recipe.

    Finished stages are skipped and an interrupted one goes on from its checkpoint, so the same command
    takes up stopped work. Several GPUs: torchrun --nproc-per-node N --no-python mretrieve train RECIPE.yaml.
    """
    from mretrieve.progress import progress
    from mretrieve.train.runner import run_recipe

    with progress(resumable=True) as on_progress:
        done = run_recipe(recipe, run_folder=run, smoke=smoke, device=device, on_progress=on_progress)
    if as_json:
        report.write_json(done.to_dict())
        return
    rows = [
        [one.name, one.kind, one.status, f"{one.seconds:,.0f}", f"{score:.4f}" if score is not None else ""]
        for one, score in ((stage, stage.scores.get("score")) for stage in done.stages)
    ]
    report.write(report.table(["stage", "kind", "", "seconds", "tuning score"], rows))
    report.tell(f"Everything is in {done.folder}")


@app.command(epilog="Example: mretrieve mine train/sw-tydiqa triples.jsonl.gz --index sw-index")
def mine(
    source: Folder,
    output: Triples,
    index: PoolIndex = None,
    also: Also = None,
    split: Split = "train",
    any_split: AnySplit = False,
    mode: take.Mode = None,
    top_k: Candidates = 100,
    per_query: PerQuery = 7,
    max_ratio: MaxRatio = 0.95,
    other_languages: OtherLanguages = 0.0,
    strategy: Strategy = "top",
    cross_encoder: Reranker = None,
    seed: take.Seed = 13,
    model: take.Model = None,
    device: take.Device = "auto",
    overwrite: take.Overwrite = False,
) -> None:
    """Find hard negatives for training questions.

    What is likely an unmarked answer is dropped: scores too near the positive's (NV-Retriever), equal or
    parallel text, the same answer. A report with samples to read is written beside the triples.
    """
    from mretrieve.mine.indexed import build_pool
    from mretrieve.mine.mining import mine as make
    from mretrieve.mine.pool import Pool
    from mretrieve.mine.task import MiningOptions
    from mretrieve.progress import progress

    options = MiningOptions(
        split=split,
        any_split=any_split,
        mode=mode or "hybrid",
        top_k=top_k,
        per_query=per_query,
        max_ratio=max_ratio,
        other_languages=other_languages,
        strategy=strategy,
        cross_encoder=cross_encoder,
        seed=seed,
    )
    with progress(resumable=True) as on_progress:
        if index is not None:
            pool = Pool(index, model=model, device=device)
        else:
            pool = build_pool(
                [source, *(also or ())],
                output.with_name(f"{output.name}.index"),
                model=model or "e5-small",
                device=device,
                on_progress=on_progress,
            )
        make(source, output, pool, options=options, overwrite=overwrite, on_progress=on_progress)
    report.tell(f"{output}: done; the report stands beside it")


@app.command(epilog="Example: mretrieve translate train/en-qed qed-es --to es --engine apertium")
def translate(
    source: Folder,
    output: Translated,
    to: To,
    engine: Engine,
    from_: From = None,
    only: Only = "all",
    split: OnlySplit = None,
    across: Across = False,
    evaluation: Evaluation = False,
    cache: Cache = None,
    beams: Beams = 1,
    device: take.Device = "auto",
    overwrite: take.Overwrite = False,
) -> None:
    """Translate a collection, or its questions.

    Translations are kept in the cache, from which stopped work goes on; what could not be translated is
    counted in a report beside or in OUT.
    """
    from mretrieve.mine.translation import TranslationOptions
    from mretrieve.mine.translation import translate as make
    from mretrieve.mine.translator import open_translator
    from mretrieve.progress import progress

    options = TranslationOptions(
        to=_codes(to), sources=_codes(from_), only=only, split=split, across=across, evaluation=evaluation
    )
    with progress(resumable=True) as on_progress:
        make(
            source,
            output,
            open_translator(engine, device=device, beams=beams),
            options=options,
            cache=cache,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    report.tell(f"{output}: done; what could not be translated is in its report")


def _codes(langs: str | None) -> tuple[str, ...]:
    """Codes separated by commas."""
    return tuple(code.strip() for code in (langs or "").split(",") if code.strip())
