"""The command line: parse, call the library, report."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, NoReturn

import typer

from mretrieve import arguments as take
from mretrieve import (
    cli_data,
    cli_evaluate,
    cli_mcp,
    cli_models,
    cli_scale,
    cli_serve,
    cli_share,
    cli_train,
    cli_ui,
    cli_update,
    report,
)
from mretrieve.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mretrieve import types
    from mretrieve.indexing import IndexReport
    from mretrieve.rank.retriever import Retriever
    from mretrieve.ray_workers import RayWorkers

OnProgress = Callable[[str, int, int | None], None]

app = typer.Typer(
    name="mretrieve",
    help="Find passages by meaning in any language.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

QUERIES_AT_ONCE = 2048  # ranked together, at most: enough for full batches
ROWS_AT_ONCE = 2_000_000  # ranked documents in memory, at most, unless one query alone has more


@app.callback()
def options(verbose: take.Verbose = False, version: take.Version = False) -> None:
    """Find passages by meaning in any language."""
    logging.getLogger("mretrieve").setLevel(logging.DEBUG if verbose else logging.INFO)


@app.command(cls=take.MayStandAlone, epilog="Example: mretrieve index docs/ my-index --model BAAI/bge-m3")
def index(
    source: take.Source,
    path: take.NewIndex,
    model: take.Model = None,
    faiss: take.Faiss = None,
    lang: take.DocumentLang = None,
    dense: take.Dense = None,
    lexical: take.Lexical = None,
    bm25_terms: take.Bm25Terms = None,
    device: take.Device = "auto",
    dtype: take.RecipeDtype = None,
    recipe: take.Recipe = None,
    ray: take.Ray = None,
    ray_cores: take.RayCores = None,
    dedup: cli_share.Dedup = None,
    index_type: cli_share.IndexType = "auto",
    overwrite: take.Overwrite = False,
    on_error: take.OnError = "stop",
    as_json: take.AsJson = False,
) -> None:
    """Build an index of a collection.

    Interrupted builds go on where they stopped when the same command is given again. An index that is
    replaced with --overwrite stays in use until the new one is complete.
    """
    from mretrieve.indexing import build_index
    from mretrieve.progress import progress
    from mretrieve.recipe import Recipe, read_recipe

    chosen = (read_recipe(recipe) if recipe else Recipe()).with_choices(
        model=model, faiss=faiss, lang=lang, dense=dense, lexical=lexical, dtype=dtype, bm25_terms=bm25_terms
    )
    if cli_share.is_milvus_address(path):
        for option, given in (("--dedup", dedup), ("--ray", ray), ("--bm25-terms", bm25_terms)):
            if given is not None:
                raise InputError(f"{option} works with INDEX folders, not with Milvus.")
        figures = cli_share.index_in_milvus(
            source,
            path,
            recipe=chosen,
            index_type=index_type,
            device=device,
            overwrite=overwrite,
            on_error=on_error,
        )
        report.write_json(figures)
        return
    with _place(device, ray, ray_cores) as place, progress(resumable=True) as on_progress:
        built = build_index(
            cli_share.without_duplicates(source, path, dedup, on_error=on_error, on_progress=on_progress),
            path,
            recipe=chosen,
            device=place,
            overwrite=overwrite,
            on_error=on_error,
            on_progress=on_progress if chosen.bm25 is None else _with_class_archive(on_progress),
        )
    _report_built(source, path, built, as_json=as_json)


def _report_built(source: str, path: "Path", built: "IndexReport", *, as_json: bool) -> None:
    manifest, skipped = built.manifest, built.source.skipped
    if skipped.total:
        report.tell(f"{source}: {skipped}")
    if dropped := getattr(built.source, "dropped", None):
        report.tell(f"{source}: {report.count(dropped.documents, 'duplicate')} left out")
    if as_json:
        figures = {"documents": manifest.documents, "languages": len(manifest.languages)}
        figures |= {"bytes": manifest.n_bytes, "skipped": skipped.total}
        report.write_json({"index": str(path), **figures})
    else:
        report.write(f"{path}: {report.summarise(manifest)}")


def _place(device: str, ray: str | None, cores: int | None) -> "AbstractContextManager[str | RayWorkers]":
    """Where the model runs: on a device here, or on workers, of whom nobody is called yet."""
    if ray is not None:
        from mretrieve.ray_workers import RayWorkers

        return RayWorkers(ray, device=device, cores=cores)
    if cores is not None:
        raise InputError("--ray-cores says how large the workers of --ray are: give both.")
    return nullcontext(device)


@app.command(epilog='Example: mretrieve search my-index "Who built the steam engine?"')
def search(
    path: take.Index,
    query: take.Text,
    mode: take.Mode = None,
    top_k: take.TopK = 10,
    lang: take.QueryLang = None,
    model: take.SameModel = None,
    device: take.Device = "auto",
    dtype: take.Dtype = "auto",
    fusion: take.Fusion = None,
    rerank: take.Rerank = None,
    as_json: take.AsJson = False,
) -> None:
    """Find the passages that answer a query."""
    reranker = None
    if rerank is not None:
        from mretrieve.rank.rerank import Reranker

        reranker = Reranker(rerank, device=device)
    with cli_share.opened(path, model=model, device=device, dtype=dtype, fusion=fusion) as retriever:
        hits = retriever.search(_as_utf8(query), top_k=top_k, mode=mode, lang=_code(lang), reranker=reranker)
    if as_json:
        report.write_json([hit.to_dict() for hit in hits])
    elif hits:
        report.write(report.format_hits(hits, width=report.terminal_width()))
    else:
        report.tell("Nothing found.")


@app.command(epilog="Example: mretrieve run my-index queries.jsonl --output my.trec")
def run(
    path: take.Index,
    queries: take.Queries,
    output: take.Run,
    mode: take.Mode = None,
    top_k: take.TopK = 100,
    lang: take.QueryLang = None,
    tag: take.Tag = "mretrieve",
    model: take.SameModel = None,
    device: take.Device = "auto",
    dtype: take.Dtype = "auto",
    fusion: take.Fusion = None,
) -> None:
    """Rank the documents of an index for each query, in TREC format.

    --lang goes before the languages that the file names.
    """
    from dataclasses import replace

    from mretrieve.datasets.queries import read_queries
    from mretrieve.datasets.runs import write_run
    from mretrieve.progress import progress
    from mretrieve.rank.retriever import Retriever

    topics = read_queries(queries)
    if code := _code(lang):
        topics = [replace(topic, lang=code) for topic in topics]
    opened = cli_share.opened(path, model=model, device=device, dtype=dtype, fusion=fusion)
    with opened as retriever, progress() as on_progress:
        rankings = _rankings if isinstance(retriever, Retriever) else cli_share.milvus_rankings
        rows = rankings(retriever, topics, top_k=top_k, mode=mode, on_progress=on_progress)  # type: ignore[arg-type]
        output.parent.mkdir(parents=True, exist_ok=True)
        n_rows = write_run(output, rows, tag)
    report.tell(f"{output}: {report.count(n_rows, 'row')} for {report.count(len(topics), 'query')}")


def _rankings(
    retriever: "Retriever",
    topics: "Sequence[types.Query]",
    *,
    top_k: int,
    mode: "types.Mode | None",
    on_progress: OnProgress,
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Id of each query, and ids and scores of its documents."""
    n_rows = max(1, min(top_k, retriever.index.manifest.documents))
    at_once = max(1, min(QUERIES_AT_ONCE, ROWS_AT_ONCE // n_rows))
    for start in range(0, len(topics), at_once):
        batch = topics[start : start + at_once]
        ranked = retriever.rank(batch, top_k=top_k, mode=mode)
        for topic, one in zip(batch, ranked, strict=True):
            ids = retriever.doc_ids(one.ranking)
            yield topic.query_id, list(zip(ids, one.ranking.scores.tolist(), strict=True))
        on_progress("queries", start + len(batch), len(topics))


@app.command(
    short_help="Embed texts into a NumPy file.",
    epilog="Example: mretrieve encode docs/ docs.npy --as document",
)
def encode(
    source: take.Source,
    output: take.Vectors,
    kind: take.Kind,
    model: take.Model = None,
    device: take.Device = "auto",
    dtype: take.Dtype = "auto",
    overwrite: take.Overwrite = False,
) -> None:
    """Embed texts: float32 unit vectors, one row per text, in NumPy's format.

    OUT.ids.txt gets the ids in the same order. With --as query, SOURCE may also be a file of queries.
    Interrupted work goes on where it stopped when the same command is given again.
    """
    from mretrieve.encode.encoder import Encoder
    from mretrieve.encoding import encode_to_file
    from mretrieve.progress import progress

    encoder = Encoder(model or "e5-small", device=device, dtype=dtype)
    with progress(resumable=True) as on_progress:
        n_texts, dim = encode_to_file(
            encoder, source, output, queries=kind == "query", overwrite=overwrite, on_progress=on_progress
        )
    report.tell(f"{output}: {report.count(n_texts, 'vector')} of {dim} dimensions")


@app.command(epilog="Example: mretrieve info my-index --verify")
def info(path: take.Index, verify: take.Verify = False, as_json: take.AsJson = False) -> None:
    """Say what an index holds and how it was built."""
    from dataclasses import asdict

    from mretrieve.index.jvm import java_description
    from mretrieve.index.open import open_index
    from mretrieve.index.open import verify as verify_index

    manifest = verify_index(path) if verify else open_index(path).manifest
    try:
        java, found = java_description(), True
    except MissingDependencyError as error:
        java, found = f"none. {error}", False
    if as_json:
        more = {"java": java if found else None, "verified": verify}
        report.write_json({"index": str(path), **asdict(manifest), **more})
    else:
        report.write(report.format_manifest(path, manifest, java=java, verified=verify))


for part in (
    *(cli_update, cli_evaluate, cli_models, cli_train, cli_data),
    *(cli_share, cli_scale, cli_serve, cli_mcp, cli_ui),
):
    app.add_typer(part.app)


def main() -> None:
    """Run the command line: errors of the user's end in one sentence and status 2."""
    logging.getLogger("mretrieve").handlers = [report.ToStderr()]
    report.write_any_text()
    try:
        app(prog_name="mretrieve")
    except (InputError, MissingDependencyError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(report.describe(error))
    except MemoryError:
        _fail("There is not enough memory for this. Close other programs, or use a larger machine.")


def _fail(message: str) -> NoReturn:
    logging.getLogger("mretrieve").debug("Where this comes from:", exc_info=True)
    report.abandon_stdout()
    report.tell(f"Error: {message}")
    sys.exit(2)


def _with_class_archive(on_progress: OnProgress) -> OnProgress:
    """Once work has begun, have another process make later starts of Java faster; nothing depends on it."""
    from mretrieve.index.class_archive import make_class_archive_in_background

    waiting = True

    def wrapped(stage: str, done: int, total: int | None) -> None:
        """Pass the progress on; the first of it says that work has begun."""
        nonlocal waiting
        if waiting:
            waiting = False
            with suppress(MissingDependencyError, InputError, OSError):
                process = make_class_archive_in_background()
                if process is not None:  # waited for, lest it stays in the system's list once it has ended
                    threading.Thread(target=process.wait, daemon=True).start()
        on_progress(stage, done, total)

    return wrapped


def _as_utf8(argument: str) -> str:
    """A command line's argument as UTF-8 where the system took it for something else."""
    with suppress(UnicodeError):
        return os.fsencode(argument).decode()
    return argument


def _code(lang: str | None) -> str | None:
    return None if lang == "auto" else lang


if __name__ == "__main__":
    main()
