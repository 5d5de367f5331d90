"""Commands that change an index, and that look whether it is whole."""

from pathlib import Path
from typing import Annotated

import typer

from mretrieve import arguments as take
from mretrieve import report

app = typer.Typer()

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of documents.", show_default=False)
]
IdFile = Annotated[
    Path | None,
    take.option("--from", metavar="FILE", help="File of ids, one a line."),
]
Faiss = Annotated[
    str | None,
    take.option(metavar="auto|small|FACTORY", help="FAISS factory string; by default the index's own."),
]
IgnoreMissing = Annotated[
    bool, typer.Option("--ignore-missing", help="Pass over ids that the index does not hold.")
]


@app.command(epilog="Example: mretrieve add my-index new-docs.jsonl")
def add(
    path: take.Index,
    source: take.Source,
    lang: take.DocumentLang = None,
    model: take.SameModel = None,
    device: take.Device = "auto",
    on_error: take.OnError = "stop",
    as_json: take.AsJson = False,
) -> None:
    """Add documents to an index.

    Only they are encoded, with the index's own model. One whose id the index has already takes the old
    one's place. Searches and servers see all of it at once, or nothing; what was interrupted goes on where
    it stopped when the same command is given again.
    """
    from mretrieve.progress import progress
    from mretrieve.updating import add_to_index

    with progress(resumable=True) as on_progress:
        done = add_to_index(
            source,
            path,
            model=model,
            device=device,
            lang=lang or "auto",
            on_error=on_error,
            on_progress=on_progress,
        )
    change, skipped = done.change, done.source.skipped
    if skipped.total:
        report.tell(f"{source}: {skipped}")
    if as_json:
        figures = {"added": change.added, "replaced": change.replaced, "skipped": skipped.total}
        report.write_json({"index": str(path), **figures, "documents": change.manifest.documents})
    else:
        replaced = f" ({change.replaced:,} in place of older ones)" if change.replaced else ""
        report.write(f"{path}: {change.added:,} added{replaced}, now {report.summarise(change.manifest)}")


@app.command(epilog="Example: mretrieve delete my-index doc-17 doc-42")
def delete(
    path: take.Index,
    ids: Ids = None,
    id_file: IdFile = None,
    ignore_missing: IgnoreMissing = False,
    as_json: take.AsJson = False,
) -> None:
    """Delete documents from an index by their ids.

    Searches and servers see all of it at once, or nothing. The disk space is given back by
    `mretrieve compact`.
    """
    from mretrieve.errors import InputError
    from mretrieve.updating import delete_from_index, read_ids

    wanted = [*(ids or ()), *(read_ids(id_file) if id_file else ())]
    if not wanted:
        raise InputError("There are no ids to delete: name them, or a file of them with --from FILE.")
    change = delete_from_index(wanted, path, ignore_missing=ignore_missing)
    if as_json:
        figures = {"deleted": change.deleted, "documents": change.manifest.documents}
        report.write_json({"index": str(path), **figures})
    else:
        report.write(f"{path}: {change.deleted:,} deleted, now {report.summarise(change.manifest)}")


@app.command(epilog="Example: mretrieve compact my-index")
def compact(
    path: take.Index,
    faiss: Faiss = None,
    model: take.SameModel = None,
    device: take.Device = "auto",
    as_json: take.AsJson = False,
) -> None:
    """Make an updated index as if it had been built at once.

    Deleted documents leave the disk and BM25's word counts. Vectors are made again only where FAISS keeps
    them compressed.
    """
    from mretrieve.progress import progress
    from mretrieve.updating import compact_index

    with progress(resumable=True) as on_progress:
        manifest = compact_index(path, faiss=faiss, model=model, device=device, on_progress=on_progress)
    if as_json:
        figures = {"documents": manifest.documents, "bytes": manifest.n_bytes}
        report.write_json({"index": str(path), **figures})
    else:
        report.write(f"{path}: {report.summarise(manifest)}")


@app.command(epilog="Example: mretrieve verify my-index")
def verify(path: take.Index, as_json: take.AsJson = False) -> None:
    """Look whether an index is whole, checksums and parts."""
    from mretrieve.index.verify import verify_index

    done = verify_index(path)
    manifest = done.manifest
    if not done.lexical:
        report.tell("The BM25 indexes were compared with their checksums only: Lucene or Java is missing.")
    if as_json:
        figures = {"files": len(manifest.files), "documents": manifest.documents}
        report.write_json({"index": str(path), **figures, "segments": done.segments, "bm25": done.lexical})
    else:
        said = f"{report.count(len(manifest.files), 'file')}, {report.count(done.segments, 'segment')}"
        report.write(f"{path}: whole ({said}, {report.count(manifest.documents, 'document')})")
