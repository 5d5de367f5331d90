"""Commands that carry indexes to a hub and back, and those parts of others that are about Milvus."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mretrieve import arguments as take
from mretrieve import report, types
from mretrieve.milvus.address import is_milvus_address as is_milvus_address

if TYPE_CHECKING:
    from mretrieve.datasets.source import Source
    from mretrieve.milvus.retriever import MilvusRetriever
    from mretrieve.progress import OnProgress
    from mretrieve.rank.retriever import Retriever
    from mretrieve.recipe import Recipe

app = typer.Typer()

QUERIES_AT_ONCE = 64  # sent to Milvus together: a message holds their texts and all their documents

HubAddress = Annotated[
    str, typer.Argument(metavar="hf:OWNER/NAME", help="Data set repository; @REVISION may follow.")
]
IndexType = Annotated[
    Literal["auto", "flat", "hnsw", "ivf", "diskann", "gpu_cagra"],
    typer.Option(help="Index of the vectors in Milvus."),
]
Dedup = Annotated[
    str | None,
    take.option(
        metavar="exact|near[:T]",
        help="Leave out documents that say the same as an earlier one, or nearly so.",
    ),
]
Private = Annotated[bool, typer.Option("--private", help="Let its owner alone read a new repository.")]


@app.command(epilog="Example: mretrieve push my-index hf:me/my-index")
def push(
    path: take.Index, address: HubAddress, private: Private = False, as_json: take.AsJson = False
) -> None:
    """Publish an index on the hub, in one commit.

    HF_ENDPOINT names another hub. What is there already is not sent again.
    """
    from dataclasses import asdict

    from mretrieve.progress import progress
    from mretrieve.sharing import push_index

    with progress(resumable=True) as on_progress:
        done = push_index(path, address, private=private, on_progress=on_progress)
    if as_json:
        report.write_json({"index": str(path), **asdict(done)})
    else:
        report.write(f"{done.url}: {report.count(done.n_files, 'file')}, {report.size(done.n_bytes)}")


@app.command(epilog="Example: mretrieve pull hf:me/my-index my-index")
def pull(
    address: HubAddress,
    path: take.NewIndex,
    overwrite: take.Overwrite = False,
    as_json: take.AsJson = False,
) -> None:
    """Fetch a published index and compare its checksums.

    An interrupted fetch goes on where it stopped when the same command is given again.
    """
    from mretrieve.progress import progress
    from mretrieve.sharing import pull_index

    with progress(resumable=True) as on_progress:
        manifest = pull_index(address, path, overwrite=overwrite, on_progress=on_progress)
    if as_json:
        figures = {"documents": manifest.documents, "languages": len(manifest.languages)}
        report.write_json({"index": str(path), **figures, "bytes": manifest.n_bytes})
    else:
        report.write(f"{path}: {report.summarise(manifest)}")


def index_in_milvus(
    source: "str | Source",
    address: Path,
    *,
    recipe: "Recipe",
    index_type: str,
    device: str,
    overwrite: bool,
    on_error: Literal["stop", "skip"],
) -> dict[str, object]:
    """What `mretrieve index` does where INDEX is an address of Milvus.

    Returns:
        The figures, for JSON.
    """
    from mretrieve.datasets.source import open_source
    from mretrieve.milvus.build import build_collection
    from mretrieve.progress import progress

    with progress(resumable=True) as on_progress:
        done = build_collection(
            open_source(source, on_error=on_error),
            address,
            recipe=recipe,
            index_type=index_type,
            device=device,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if done.shortened:
        texts = report.count(done.shortened, "text")
        report.tell(f"{address}: {texts} cut at 65,535 bytes, for a field of Milvus holds no more")
    figures = {"documents": done.documents, "written": done.written, "skipped": done.source.skipped.total}
    return {"index": str(address), **figures}


def without_duplicates(
    source: str,
    path: Path,
    dedup: str | None,
    *,
    on_error: Literal["stop", "skip"],
    on_progress: "OnProgress",
) -> "str | Source":
    """The collection, without copies where that is asked for; INDEX.dropped.jsonl names them."""
    if dedup is None:
        return source
    from mretrieve.datasets.dedup import distinct
    from mretrieve.datasets.source import open_source

    names = path.with_name(f"{path.name}.dropped.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    inner = open_source(source, on_error=on_error)
    return distinct(inner, dedup, report=names, work=path.parent, on_progress=on_progress)


@contextmanager
def opened(
    path: Path, *, model: str | None, device: str, dtype: str, fusion: str | None
) -> "Iterator[Retriever | MilvusRetriever]":
    """The retriever of a folder or of an address of Milvus."""
    if is_milvus_address(path):
        from mretrieve.milvus.retriever import MilvusRetriever

        with MilvusRetriever(path, model=model, device=device, dtype=dtype, fusion=fusion) as retriever:
            yield retriever
    else:
        from mretrieve.rank.retriever import Retriever

        yield Retriever(path, model=model, device=device, dtype=dtype, fusion=fusion)


def milvus_rankings(
    retriever: "MilvusRetriever",
    topics: Sequence[types.Query],
    *,
    top_k: int,
    mode: types.Mode | None,
    on_progress: "OnProgress",
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """What `mretrieve run` writes where INDEX is an address of Milvus: id of a query, ids and scores."""
    for start in range(0, len(topics), QUERIES_AT_ONCE):
        batch = topics[start : start + QUERIES_AT_ONCE]
        ranked = retriever.rank_ids(batch, top_k=top_k, mode=mode)
        yield from zip([topic.query_id for topic in batch], ranked, strict=True)
        on_progress("queries", start + len(batch), len(topics))
