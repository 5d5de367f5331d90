"""Commands about published collections: list them, fetch them, reproduce what was measured on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from mretrieve import arguments as take
from mretrieve import report, types
from mretrieve.errors import InputError

if TYPE_CHECKING:
    from mretrieve.reproduction import Reproduction

app = typer.Typer()

Archive = Annotated[
    bool,
    typer.Option("--archive", help="Mr. TyDi as its makers' tar.gz in place of the hub's files."),
]
Name = Annotated[
    str | None, typer.Argument(metavar="NAME", help="miracl, mrtydi, xquad or xquad-r: by language.")
]
Addresses = Annotated[
    list[str], typer.Argument(metavar="ADDRESS", help="miracl/sw, mrtydi/sw/test, xquad/th, miracl, hf:REPO.")
]
OneAddress = Annotated[
    str | None,
    typer.Argument(
        metavar="ADDRESS", help="miracl/sw, mrtydi/sw/test, xquad/th, xquad-r, beir:FOLDER, hf:REPO."
    ),
]
Retrievers = Annotated[
    str | None,
    take.option(
        "--retriever", metavar="NAMES", help="bm25 (the default), dense and hybrid, separated by commas."
    ),
]
Recipe = Annotated[
    Path | None,
    take.option(
        metavar="FILE.yaml",
        help="Index recipe to reproduce: its collection, its index, and the scores that it expects.",
    ),
]
Split = Annotated[
    str,
    take.option(metavar="NAME", help="Topics and judgements; by default the published one."),
]
Root = Annotated[
    Path | None,
    take.option(metavar="FOLDER", help="Downloads of yours, to read instead of fetching."),
]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Where indexes, runs and results go.")]
All = Annotated[bool, typer.Option("--all", help="All languages of MIRACL and Mr. TyDi, or of ADDRESS.")]


@app.command(epilog="Example: mretrieve datasets miracl")
def datasets(name: Name = None, as_json: take.AsJson = False) -> None:
    """List the collections that have an address."""
    from mretrieve.datasets.address import parse_address
    from mretrieve.datasets.catalogue import benchmarks

    chosen = [parse_address(name, whole=True).kind] if name else list(benchmarks())
    found = [benchmarks()[key] for key in chosen]
    if as_json:
        report.write_json([_as_values(one.key) for one in found])
        return
    if name is None:
        rows = [
            [
                one.key,
                str(len(one.languages)),
                f"{one.passages:,}",
                ", ".join(one.splits),
                one.licence,
                one.about,
            ]
            for one in found
        ]
        report.write(report.table(["collection", "languages", "passages", "splits", "licence", ""], rows))
        report.tell("Also: beir:FOLDER and hf:REPO[:CONFIG]. `mretrieve datasets miracl` lists languages.")
        return
    for one in found:
        report.write(f"{one.title}: {one.about}\n{one.licence}. {one.paper}\n")
        names = one.splits
        rows = [
            [one.key if one.pooled else f"{one.key}/{lang}", lang, f"{entry.passages:,}"]
            + [f"{entry.splits[split][0]:,}" if split in entry.splits else "" for split in names]
            for lang, entry in one.languages.items()
        ]
        report.write(report.table(["address", "language", "passages", *(f"{s} topics" for s in names)], rows))


@app.command(epilog="Example: mretrieve download miracl/sw mrtydi/sw")
def download(addresses: Addresses, archive: Archive = False) -> None:
    """Fetch published collections into the cache.

    HF_ENDPOINT names another hub. What is there already is not fetched again.
    """
    from mretrieve.datasets.obtain import download as fetch
    from mretrieve.progress import progress

    for address in addresses:
        with progress(resumable=True) as on_progress:
            paths = fetch(address, archive=archive, on_progress=on_progress)
        n_bytes = sum(path.stat().st_size for path in paths)
        report.tell(f"{address}: {report.count(len(paths), 'file')}, {report.size(n_bytes)}, in the cache")


@app.command(epilog="Example: mretrieve reproduce miracl/sw --retriever bm25,hybrid")
def reproduce(
    address: OneAddress = None,
    recipe: Recipe = None,
    retriever: Retrievers = None,
    model: take.Model = None,
    every: All = False,
    split: Split = "",
    root: Root = None,
    out: Out = Path("reproduced"),
    device: take.Device = "auto",
    dtype: take.RecipeDtype = None,
    fusion: take.Fusion = None,
    as_json: take.AsJson = False,
) -> None:
    """Measure a collection beside published or expected scores.

    The expected ones are those that an index recipe states.

    --all also writes table.md, table.csv and a plot per language. The same command goes on where it stopped.
    With --recipe the exit status is 1 where a score is not as expected.
    """
    if recipe is not None:
        said = {"--retriever": retriever, "--model": model, "--dtype": dtype, "--fusion": fusion}
        _refuse_beside_recipe({**said, "--all": every or None})
        _reproduce_recipe(recipe, address, out=out, split=split, root=root, device=device, as_json=as_json)
        return
    from mretrieve.progress import progress
    from mretrieve.reproduce import reproduce_many
    from mretrieve.reproduction import Settings

    settings = [
        Settings(one, model or "e5-small", device, dtype or "auto", (fusion or "") if one == "hybrid" else "")
        for one in _modes(retriever or "bm25")
    ]
    with progress(resumable=True) as on_progress:
        done = reproduce_many(
            address, out, settings=settings, every=every, split=split, root=root, on_progress=on_progress
        )
    _tell_skipped(done.skipped)
    if every:
        from mretrieve.reproduction_report import write_report

        for path in write_report(out, done.results)[:2]:
            report.tell(f"{path}: written")
    if as_json:
        report.write_json([one.to_dict() for one in done.results])
    else:
        report.write(_table(done.results))
        _tell_notes(done.results)


def _tell_skipped(skipped: dict[str, str]) -> None:
    """Of the first all that is missing, of the others their names."""
    names = list(skipped)
    if names:
        report.tell(f"{names[0]} is left out: {skipped[names[0]]}")
    if len(names) > 1:
        report.tell(f"Left out for the like reason: {', '.join(names[1:])}")


def _refuse_beside_recipe(options: dict[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"A recipe says this itself: leave out {' and '.join(given)}, or change the recipe.")


def _reproduce_recipe(
    path: Path,
    address: str | None,
    *,
    out: Path,
    split: str,
    root: Path | None,
    device: str,
    as_json: bool,
) -> None:
    from mretrieve.progress import progress
    from mretrieve.reproduce_recipe import reproduce_recipe

    with progress(resumable=True) as on_progress:
        done = reproduce_recipe(
            path, out, address=address, split=split, root=root, device=device, on_progress=on_progress
        )
    checked = [score for score in done.scores if score.as_expected is not None]
    missed = [score.measure for score in checked if not score.as_expected]
    if as_json:
        report.write_json(done.to_dict())
    else:
        report.write(_expectations(done))
    if missed:
        report.tell(f"{path}: {', '.join(missed)} not as expected")
        raise typer.Exit(1)
    if checked:
        report.tell(f"{path}: reproduced")
    else:
        report.tell(f"{path} expects no score: write those measured under `expect`.")


def _expectations(done: "Reproduction") -> str:
    words = {True: "as expected", False: "not as expected", None: "nothing expected"}
    rows = []
    for score in done.scores:
        cells = [f"{done.address}/{done.split}", done.retriever, score.measure, f"{score.measured:.4f}"]
        if score.expected is None:
            cells += ["", "", ""]
        else:
            off = score.measured - score.expected
            cells += [f"{score.expected:.4f}", f"{off:+.4f}", f"{score.tolerance:g}"]
        rows.append([*cells, words[score.as_expected]])
    header = ["collection", "retriever", "measure", "measured", "expected", "difference", "tolerance"]
    return report.table([*header, "verdict"], rows)


def _modes(names: str) -> list[types.Mode]:
    known: tuple[types.Mode, ...] = get_args(types.Mode)
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise InputError(f"There is no retriever '{name}'. Choose from: {', '.join(known)}.")
    return [mode for mode in ("bm25", "dense", "hybrid") if mode in chosen] or ["bm25"]


def _table(results: Sequence["Reproduction"]) -> str:
    rows = []
    for one in results:
        system = f"{one.retriever} {one.model}".strip()
        for score in one.scores:
            published = "" if score.published is None else f"{score.published:.4f}"
            difference = "" if score.difference is None else f"{score.difference:+.4f}"
            cells = [f"{one.address}/{one.split}", system, score.measure, f"{score.measured:.4f}"]
            rows.append([*cells, published, difference, score.verdict])
    header = ["collection", "system", "measure", "measured", "published", "difference", "verdict"]
    return report.table(header, rows)


def _tell_notes(results: Sequence["Reproduction"]) -> None:
    """Whose scores stand beside ours, and which collections are not whole."""
    for line in dict.fromkeys(
        f"{one.retriever}: published is {one.compared_with} ({one.source})"
        for one in results
        if one.compared_with
    ):
        report.tell(line)
    smaller = [one for one in results if not one.complete and one.official_passages is not None]
    for line in dict.fromkeys(
        f"{one.address} holds {one.passages:,} passages here, and {one.official_passages:,} as published: "
        "its scores cannot be compared."
        for one in smaller
    ):
        report.tell(line)


def _as_values(key: str) -> dict[str, object]:
    from mretrieve.datasets.catalogue import benchmarks

    one = benchmarks()[key]
    languages = {
        lang: {
            "passages": entry.passages,
            "splits": {s: {"topics": t, "judgements": q} for s, (t, q) in entry.splits.items()},
        }
        for lang, entry in one.languages.items()
    }
    values = {"collection": key, "title": one.title, "about": one.about, "licence": one.licence}
    return {**values, "paper": one.paper, "pooled": one.pooled, "split": one.split, "languages": languages}
