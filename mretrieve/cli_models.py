"""Commands that make models and look into them."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mretrieve import arguments as take
from mretrieve import report

if TYPE_CHECKING:
    from mretrieve.understand.extract import ExtractReport

app = typer.Typer()


@app.command(epilog="Example: mretrieve upcycle e5-small my-moe --experts 8 --top-k 2 --every 2")
def upcycle(
    base: take.Base,
    output: take.NewModel,
    experts: take.Experts = 8,
    top_k: take.ExpertsPerToken = 2,
    every: take.Every = 2,
    last: take.Last = None,
    way: take.Way = "exact",
    router: take.Router = "softmax",
    languages: take.RouterLanguages = None,
    noise: take.Noise = 0.0,
    seed: take.Seed = 0,
) -> None:
    """Make a sparse mixture-of-experts model of a dense one.

    Every expert starts as a copy of its layer's feed-forward network. With --way exact the new model gives
    the old one's embeddings until it is trained; --way nomic does as contrastors, which loses biases.
    """
    from mretrieve.encode.checkpoint import find_checkpoint
    from mretrieve.files import refuse_used_folder
    from mretrieve.models.nomic_files import save_nomic_moe
    from mretrieve.models.upcycle import expert_layers, layer_count
    from mretrieve.models.upcycle import upcycle as make

    refuse_used_folder(output)
    checkpoint = find_checkpoint(base)
    model = make(
        checkpoint.folder,
        moe_layers=expert_layers(layer_count(checkpoint.folder), every=every, last=last),
        num_experts=experts,
        top_k=top_k,
        way=way,
        noise=noise,
        seed=seed,
        router=router,
        languages=tuple(_codes(languages) or ()),
    )
    prompts = {"query": checkpoint.query_prefix, "passage": checkpoint.document_prefix}
    save_nomic_moe(
        model,
        output,
        tokenizer=checkpoint.folder,
        prompts={name: prompt for name, prompt in prompts.items() if prompt},
        max_length=checkpoint.max_length,
    )
    layers = ", ".join(map(str, model.sizes.moe_layers))
    total = sum(parameter.numel() for parameter in model.parameters())
    report.tell(f"{output}: {total:,} parameters, {experts} experts in each of the layers {layers}")


@app.command(
    short_help="Write a model as a sparse ONNX graph.",
    epilog="Example: mretrieve export my-moe my-moe.onnx --int8",
)
def export(
    model: take.AnyModel,
    output: take.NewGraph,
    int8: take.Int8 = False,
    opset: take.Opset = 23,
    overwrite: take.Overwrite = False,
    as_json: take.AsJson = False,
) -> None:
    """Write a model as an ONNX graph that computes only the experts that tokens are routed to.

    The graph has operators of the ONNX standard alone, takes any batch and length, and is compared with
    the model before it gets its name.
    """
    from dataclasses import asdict

    from mretrieve.encode.checkpoint import find_checkpoint
    from mretrieve.models.export import export_onnx
    from mretrieve.progress import progress

    with progress() as on_progress:
        done = export_onnx(
            find_checkpoint(model).folder,
            output,
            int8=int8,
            opset=opset,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if as_json:
        report.write_json(asdict(done) | {"path": str(done.path)})
    else:
        said = f"cosine to the model at least {done.cosine:.6f}, largest difference {done.difference:.1e}"
        report.write(f"{done.path}: {report.size(done.bytes)}, opset {done.opset}, {said}")


@app.command(
    short_help="Report how a sparse model routes each language.",
    epilog="Example: mretrieve routing my-moe --data ntrex-128.jsonl.xz --out report --langs de,sw",
)
def routing(
    model: take.AnyModel,
    data: take.Parallel,
    out: take.Report,
    langs: take.Langs = None,
    rows: take.Rows = None,
    device: take.Device = "auto",
) -> None:
    """Report how a sparse model routes each language: load, entropy, divergence from English, a tree."""
    from mretrieve.encode.choose import find_device
    from mretrieve.progress import progress
    from mretrieve.understand.routing import routing_report

    with progress() as on_progress:
        found = routing_report(
            model,
            data,
            out,
            langs=_codes(langs),
            limit=rows,
            device=find_device(device),
            on_progress=on_progress,
        )
    said = f"{report.count(len(found.languages), 'language')}, {report.count(found.n_rows, 'row')}"
    report.tell(f"{out}: {said}. Read {out / 'README.md'}")


@app.command(
    short_help="Make a smaller model for a few languages.",
    epilog="Example: mretrieve extract my-moe small --langs de,fr --trim-vocab --data ntrex.jsonl.xz",
)
def extract(
    model: take.AnyModel,
    output: take.NewModel,
    langs: take.KeptLangs,
    experts: take.KeptExperts = None,
    trim_vocab: take.TrimVocab = False,
    data: take.SampleTexts = None,
    test: take.TestText = None,
    rows: take.Rows = None,
    as_json: take.AsJson = False,
) -> None:
    """Make a smaller model for a few languages: fewer experts, fewer pieces in the vocabulary.

    Trimming the vocabulary changes nothing for text whose pieces are kept; dropping experts does. OUT gets
    a report, extract.json: sizes, speed, and with --test what was kept and lost by language.
    """
    from mretrieve.progress import progress
    from mretrieve.understand.extract import ExtractPlan
    from mretrieve.understand.extract import extract as make

    plan = ExtractPlan(
        langs=_codes(langs) or (),
        texts=data or (),
        experts=experts,
        trim_vocab=trim_vocab,
        test=test,
        limit=rows,
    )
    with progress() as on_progress:
        done = make(model, output, plan, on_progress=on_progress)
    if as_json:
        report.write_json(done.to_dict())
    else:
        report.write(_extracted(output, done))


def _extracted(output: Path, done: "ExtractReport") -> str:
    """Sizes, speed, and for each language tested what was kept."""
    rows = []
    for name, one in (("before", done.before), ("after", done.after)):
        speed = done.speed.before if name == "before" else done.speed.after
        figures = [f"{one.parameters:,}", f"{one.vocabulary:,}", str(one.experts)]
        rows.append([name, *figures, report.size(one.weight_bytes + one.tokenizer_bytes), f"{speed:.1f}"])
    sizes = report.table([str(output), "parameters", "pieces", "experts", "size", "texts/s"], rows)
    if not done.quality:
        return sizes
    cells = [
        [one.lang, "kept" if one.kept else "", *map(_share, (one.accuracy_before, one.accuracy_after))]
        + [f"{one.cosine:.4f}", f"{one.tokens_ratio:.2f}"]
        for one in done.quality
    ]
    header = ["language", "", "accuracy before", "after", "cosine", "tokens, ratio"]
    return sizes + "\n\n" + report.table(header, cells)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _codes(langs: str | None) -> list[str] | None:
    """Codes separated by commas."""
    return None if langs is None else [code.strip() for code in langs.split(",") if code.strip()]
