"""Commands for large indexes: how fast they may be searched, and what they will take."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mretrieve import arguments as take
from mretrieve import report
from mretrieve.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mretrieve.index.open import Index
    from mretrieve.index.tune_index import Tuned
    from mretrieve.planning import IndexCost

app = typer.Typer()

Recall = Annotated[
    float, typer.Option(metavar="R", help="Share of the exact search's hits to find, at most 1.")
]
RecallAt = Annotated[int, typer.Option(metavar="N", min=1, help="Hits that recall is taken of.")]
HeldQueries = Annotated[
    Path | None,
    take.option(metavar="QUERIES", help="Queries to measure by; by default documents of the index."),
]
HowMany = Annotated[int, typer.Option("--n", metavar="N", min=1, help="Queries or documents, at most.")]
AllVectors = Annotated[
    Path | None,
    take.option(
        metavar="FILE.npy",
        help="Vectors of all documents, by `mretrieve encode`; by default as the index holds them.",
    ),
]
Curve = Annotated[
    Path | None,
    take.option(metavar="FILE.png", help="Picture to write; INDEX.recall.png by default."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Measure, and leave the index as it is.")]
Documents = Annotated[int, typer.Option(metavar="N", min=1, help="Documents, one vector each.")]
Dim = Annotated[
    int | None,
    take.option(metavar="N", min=1, help="Dimensions of the vectors; the model's by default."),
]
PlannedModel = Annotated[
    str | None,
    take.option(metavar="MODEL", help="Model whose encoding is timed, too."),
]
Factory = Annotated[str, typer.Option(metavar="auto|small|FACTORY", help="FAISS factory string.")]
Calibrate = Annotated[bool, typer.Option("--calibrate", help="Measure this machine anew.")]


@app.command(
    "tune-index",
    short_help="Find the fastest search parameters that reach a recall.",
    epilog="Example: mretrieve tune-index my-index --recall 0.95 --queries queries.jsonl",
)
def tune_index(
    path: take.Index,
    recall: Recall = 0.95,
    top_k: RecallAt = 10,
    queries: HeldQueries = None,
    n: HowMany = 1000,
    vectors: AllVectors = None,
    curve: Curve = None,
    dry_run: DryRun = False,
    model: take.SameModel = None,
    device: take.Device = "auto",
    as_json: take.AsJson = False,
) -> None:
    """Find the fastest search parameters of an index that reach a recall, and write them into it.

    Recall is measured against exact search of the vectors as the index holds them, or of --vectors. Documents
    as queries find each other more easily than real queries find documents: give --queries if there are any.
    """
    from mretrieve.index.faiss import DenseIndex
    from mretrieve.index.manifest import DENSE
    from mretrieve.index.open import open_index
    from mretrieve.index.tune_index import hold_queries, tune_search, write_search
    from mretrieve.progress import progress
    from mretrieve.recall_curve import write_recall_curve

    index = open_index(path)
    entry = index.manifest.dense
    if entry is None:
        raise InputError(f"{path} has no dense part, so there is nothing to tune.")
    if not 0 < recall <= 1:
        raise InputError(f"--recall should be above 0 and at most 1, not {recall}.")
    asked = None if queries is None else _encode(index, queries, n, model, device)
    # The first segment is the large one, whose parameters the manifest holds.
    dense = DenseIndex.open(index.folders[0] / DENSE, search=entry.search, device="cpu")
    given = None if vectors is None else _load(vectors)
    with progress() as on_progress:
        held = hold_queries(
            dense, queries=asked, n_queries=n, top_k=top_k, vectors=given, on_progress=on_progress
        )
        tuned = tune_search(dense, held, recall=recall, factory=entry.factory, on_progress=on_progress)
    if tuned.chosen is not None and not dry_run:
        write_search(index.path, tuned.chosen.search)
    picture = curve or index.path.with_name(f"{index.path.name}.recall.png")
    try:
        written = write_recall_curve(tuned, picture)
    except MissingDependencyError as error:
        report.tell(str(error))
        written = [picture.with_suffix(".json")]
    _report_tuned(tuned, written, as_json=as_json)


@app.command(
    short_help="Estimate disk, memory and time of an index.",
    epilog="Example: mretrieve plan --documents 106000000 --dim 768 --faiss auto",
)
def plan(
    documents: Documents,
    dim: Dim = None,
    faiss: Factory = "auto",
    model: PlannedModel = None,
    device: take.Device = "auto",
    dtype: take.Dtype = "auto",
    calibrate: Calibrate = False,
    as_json: take.AsJson = False,
) -> None:
    """Estimate what the vectors of an index take: disk, memory, GPU memory and time.

    Sizes are arithmetic. Times come from rates that are measured on this machine for some seconds and kept
    in the cache; what they come to at another size is an estimate. Documents' text and BM25 are not counted.
    """
    from mretrieve.index.faiss import check_factory
    from mretrieve.planning import encoding_rate, measured_rates, plan_index

    per_second = None
    if model is not None:
        per_second, own = encoding_rate(model, device=device, dtype=dtype)
        if dim is not None and dim != own:
            raise InputError(f"{model} has {own} dimensions, not {dim}: leave --dim out.")
        dim = own
    if dim is None:
        raise InputError("Give --dim N, or the --model that makes the vectors.")
    check_factory(faiss, dim)
    rates = measured_rates(dim, again=calibrate)
    cost = plan_index(documents, dim, faiss=faiss, rates=rates, documents_per_second=per_second)
    if as_json:
        report.write_json(cost.to_dict() | {"rates": asdict(rates)})
    else:
        report.write(_format_cost(cost, rates.threads))


def _encode(index: "Index", queries: Path, n: int, model: str | None, device: str) -> "NDArray[np.float32]":
    from mretrieve.datasets.queries import read_queries
    from mretrieve.encode.encoder import Encoder
    from mretrieve.index.manifest import check_encoder

    built_with = index.manifest.encoder
    assert built_with is not None  # there are vectors
    encoder = Encoder.of_index(built_with, model=model, device=device)
    check_encoder(index.manifest, encoder.name, encoder.fingerprint, path=index.path)
    return encoder.encode_queries([query.text for query in read_queries(queries)[:n]])


def _load(path: Path) -> "NDArray[np.float32]":
    import numpy as np

    with suppress(ValueError, OSError, EOFError):
        vectors: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        if vectors.ndim == 2 and vectors.dtype == np.float32:
            return vectors
    raise InputError(f"{path} is no file of vectors: give one that `mretrieve encode` wrote.")


def _report_tuned(tuned: "Tuned", written: list[Path], *, as_json: bool) -> None:
    if as_json:
        report.write_json(tuned.to_dict() | {"files": [str(path) for path in written]})
    else:
        rows = [
            [point.search or "exact", f"{point.recall:.4f}", f"{point.milliseconds:.3f}"]
            + ["chosen" if point == tuned.chosen else ""]
            for point in tuned.frontier()
        ]
        report.write(report.table(["parameters", f"recall@{tuned.top_k}", "ms per query", ""], rows))
        report.tell("Curve: " + ", ".join(map(str, written)))
    if tuned.chosen is None:
        best = max(point.recall for point in tuned.points)
        raise InputError(
            f"No search parameters reach recall {tuned.target:g}, {best:.4f} is the most: the index is left "
            "as it was. Build it with finer codes or with re-scoring, such as --faiss auto."
        )


def _format_cost(cost: "IndexCost", threads: int) -> str:
    unknown = "unknown: name the --model"
    rows = [
        ["vectors", f"{cost.documents:,} of {cost.dim} dimensions, {cost.factory}"],
        ["disk", report.size(cost.disk_bytes)],
        ["disk while building", report.size(cost.disk_while_building_bytes)],
        ["memory while building", report.size(cost.ram_building_bytes)],
        ["memory for searching", report.size(cost.ram_searching_bytes)],
        ["re-scoring, may stay on disk", report.size(cost.rescoring_bytes)],
        ["GPU memory", "no GPU form" if cost.gpu_bytes is None else report.size(cost.gpu_bytes)],
        ["encoding", unknown if cost.encoding_seconds is None else _duration(cost.encoding_seconds)],
        ["building, from vectors", f"{_duration(cost.building_seconds)} with {threads} threads"],
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
