"""Reproduce published scores: fetch a collection, index it, rank its topics, evaluate, and compare.

Everything is kept in one folder: indexes, runs and results. A stopped reproduction goes on where it stopped,
and a finished one is only read again, until the collection or the settings change.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from mretrieve import files
from mretrieve.datasets.address import Address, parse_address
from mretrieve.datasets.collection import Collection
from mretrieve.datasets.layout import MissingFilesError
from mretrieve.datasets.obtain import obtain
from mretrieve.datasets.published import System, counterpart
from mretrieve.datasets.runs import read_run, write_run
from mretrieve.errors import InputError
from mretrieve.evaluate.measures import evaluate
from mretrieve.index.manifest import is_index
from mretrieve.indexing import build_index
from mretrieve.rank.retriever import Retriever
from mretrieve.recipe import Bm25Part, EncoderPart, ExpectPart, FaissPart, Recipe
from mretrieve.reproduction import Reproduction, Reproductions, Score, Settings, verdict
from mretrieve.types import Mode, Query

OnProgress = Callable[[str, int, int | None], None]

DEPTH = 100
"""Documents per topic: what R@100 and MRR@100 look at."""

ALL = ("miracl", "mrtydi")
"""Benchmarks that are meant where none is named."""

_QUERIES_AT_ONCE = 1024


def reproduce(
    address: str | Address,
    out: Path,
    *,
    settings: Settings | None = None,
    split: str = "",
    root: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Reproduction:
    """Reproduce the scores of one collection.

    Args:
        address: such as `miracl/sw/dev`; see `mretrieve.datasets.address`.
        out: folder for indexes, runs and results.
        settings: how to rank; BM25 by default.
        split: where the address names none and the collection has several.
        root: folder of downloads to read instead of fetching.
        on_progress: told of each stage.

    Returns:
        The scores beside the published ones.

    Raises:
        InputError: the address or a setting is wrong, or files are missing or broken.
        MissingDependencyError: FAISS or Lucene is needed and not installed.
    """
    settings = settings or Settings()
    address = parse_address(address) if isinstance(address, str) else address
    collection = obtain(address, root=root, on_progress=on_progress)
    split = collection.choose(split or address.split)
    name = f"{_slug(f'{collection.address}/{split}')}.{settings.label}"
    result_file, run_file = out / "results" / f"{name}.json", out / "runs" / f"{name}.trec"
    key = _key(collection, split, settings)
    if (done := _read_result(result_file, key)) is not None and run_file.is_file():
        return _compare(done, address, collection, settings)
    index = _index(collection, out, settings, on_progress)
    passages = _rank(collection, split, index, run_file, settings, on_progress)
    judged = collection.judgements(split)
    means = evaluate(read_run(run_file), judged, _measures(collection, settings)).mean
    result = Reproduction(
        address=collection.address,
        split=split,
        retriever=settings.retriever,
        model="" if settings.retriever == "bm25" else settings.model,
        topics=len(judged),
        passages=passages,
        official_passages=collection.passages,
        compared_with="",
        source="",
        scores=tuple(Score(measure, value, None, "") for measure, value in means.items()),
        run=str(run_file),
    )
    result = _compare(result, address, collection, settings)
    _write_json(result_file, {"key": key, **result.to_dict()})
    return result


def reproduce_many(
    address: str | None,
    out: Path,
    *,
    settings: Sequence[Settings],
    every: bool = False,
    split: str = "",
    root: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Reproductions:
    """Reproduce one collection by several retrievers, or all languages of a benchmark.

    Args:
        address: of a collection; with `every` of a benchmark, or None for MIRACL and Mr. TyDi.
        out: folder for indexes, runs and results.
        settings: how to rank, one after the other.
        every: all languages; those whose files are not here and cannot be fetched are left out.
        split: as for `reproduce`.
        root: folder of downloads to read instead of fetching.
        on_progress: told of each stage.

    Raises:
        InputError: there is no address, nothing could be done, or what `reproduce` raises.
    """
    if address is None and not every:
        raise InputError(
            "Name a collection, such as miracl/sw, or give --all. `mretrieve datasets` lists them."
        )
    wanted = _wanted(address) if every else [parse_address(address or "")]
    results, skipped = [], {}
    for one in wanted:
        for setting in settings:
            try:
                results.append(
                    reproduce(one, out, settings=setting, split=split, root=root, on_progress=on_progress)
                )
            except MissingFilesError as error:
                if not every:
                    raise
                skipped[str(one)] = str(error)
                break
    if not results:
        raise InputError(f"Nothing to reproduce. The first that is missing: {next(iter(skipped.values()))}")
    return Reproductions(tuple(results), skipped)


def _wanted(address: str | None) -> list[Address]:
    """Every language, small collections first, so that the first numbers come soon."""
    keys = [parse_address(address, whole=True)] if address else [Address(key) for key in ALL]
    found = []
    for one in keys:
        if one.benchmark is None or one.lang or one.benchmark.pooled:
            found.append(one)
            continue
        languages = sorted(one.benchmark.languages.items(), key=lambda item: item[1].passages)
        found += [Address(one.kind, lang) for lang, _ in languages]
    return found


def _measures(collection: Collection, settings: Settings) -> list[str]:
    """Those of the collection, and what the recipe expects besides."""
    return list(dict.fromkeys([*collection.measures, *_expected(settings).scores]))


def _expected(settings: Settings) -> ExpectPart:
    return (settings.recipe and settings.recipe.expect) or ExpectPart()


def _compare(
    result: Reproduction, address: Address, collection: Collection, settings: Settings
) -> Reproduction:
    """Put published and expected scores beside the measured ones; they may have changed since then."""
    expect = _expected(settings)
    system: System | None = None
    same = False
    if address.benchmark is not None:
        system, same = counterpart(
            address.kind,
            result.split,
            retriever=result.retriever,
            model=result.model,
            lang=collection.lang,
        )
    scores = []
    for score in result.scores:
        published = system.score(score.measure, collection.lang) if system else None
        word = verdict(score.measured, published, same=same, complete=result.complete)
        expected = expect.scores.get(score.measure)
        scores.append(Score(score.measure, score.measured, published, word, expected, expect.tolerance))
    name, source = (system.name, system.source) if system else ("", "")
    return replace(result, scores=tuple(scores), compared_with=name, source=source)


def _index(collection: Collection, out: Path, settings: Settings, on_progress: OnProgress | None) -> Path:
    """An index of the collection with the parts that the retriever needs, built once."""
    recipe = settings.recipe
    if recipe is None:
        recipe = Recipe(
            encoder=None if settings.retriever == "bm25" else EncoderPart(model=settings.model),
            faiss=FaissPart(factory="Flat"),  # exact: no recall is lost to the index
            bm25=Bm25Part(terms="analyzer"),  # as published
        )
    path = out / "indexes" / f"{_slug(collection.address)}.{settings.index}"
    marker = path.with_name(f"{path.name}.json")
    built_of = {"source": collection.source().fingerprint(), "recipe": _built_by(recipe)}
    if is_index(path) and _read_json(marker) == built_of:
        return path
    build_index(
        collection.source(),
        path,
        recipe=recipe,
        device=settings.device,
        overwrite=is_index(path),
        on_progress=on_progress,
    )
    _write_json(marker, built_of)
    return path


def _built_by(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe an index depends on, for JSON."""
    return recipe.model_dump(mode="json", exclude={"collection", "expect"})


def _rank(
    collection: Collection,
    split: str,
    index: Path,
    run_file: Path,
    settings: Settings,
    on_progress: OnProgress | None,
) -> int:
    """Write the run; the number of documents that were ranked."""
    retriever = Retriever(index, device=settings.device, dtype=settings.dtype, fusion=settings.fusion or None)
    judged = collection.judgements(split)
    topics = [topic for topic in collection.queries(split) if topic.query_id in judged]
    run_file.parent.mkdir(parents=True, exist_ok=True)
    write_run(run_file, _rankings(retriever, topics, settings.retriever, on_progress), settings.label)
    return retriever.index.manifest.documents


def _rankings(
    retriever: Retriever, topics: Sequence[Query], mode: Mode, on_progress: OnProgress | None
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    for start in range(0, len(topics), _QUERIES_AT_ONCE):
        batch = topics[start : start + _QUERIES_AT_ONCE]
        for topic, one in zip(batch, retriever.rank(batch, top_k=DEPTH, mode=mode), strict=True):
            ids = retriever.doc_ids(one.ranking)
            yield topic.query_id, list(zip(ids, one.ranking.scores.tolist(), strict=True))
        if on_progress is not None:
            on_progress("queries", start + len(batch), len(topics))


def _key(collection: Collection, split: str, settings: Settings) -> str:
    """Digest of all that a result depends on."""
    judged = [*collection.topics[split], *collection.qrels[split]]
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in judged]
    built_by = None if settings.recipe is None else _built_by(settings.recipe)
    ranked_by = asdict(replace(settings, recipe=None))
    measures = _measures(collection, settings)
    parts = [collection.source().fingerprint(), split, states, measures, ranked_by, built_by]
    return sha256(repr(parts).encode()).hexdigest()


def _read_result(path: Path, key: str) -> Reproduction | None:
    values = _read_json(path)
    return Reproduction.from_dict(values) if values is not None and values.get("key") == key else None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _write_json(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_file(path) as file:
        file.write(json.dumps(values, ensure_ascii=False, indent=1).encode())


def _slug(address: str) -> str:
    return "-".join(part for part in address.replace(":", "/").split("/") if part)
