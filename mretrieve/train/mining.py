"""The stage `mine`: hard negatives for the pairs of a data set, by `mretrieve.mine`.

The questions are mined folder by folder, or all in one pool of all their passages, so that negatives may be
in any language. What comes out are the pairs that the stage `data` has passed, with negatives beside them.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from mretrieve.datasets.heldout import parallel_groups
from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError
from mretrieve.files import atomic_file, remove
from mretrieve.mine.candidates import Candidate
from mretrieve.mine.sample import Strategy
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.data import DataStage, RetrievalSet, evaluated_by, folders_of, source_of, splits_of
from mretrieve.train.leakage import Evaluated, normalize
from mretrieve.train.recipe import Stage
from mretrieve.train.sets import Rows, load_set, set_names, write_rows
from mretrieve.types import Mode

logger = logging.getLogger(__name__)


class MineStage(Stage):
    """Parameters of the stage; those of `mretrieve.mine.task.MiningOptions` mean the same here.

    `data` are retrieval sets of a stage `data`. `model` looks for negatives, and says which are too near the
    positive; `cross_encoder` looks at what it left. With `together` all folders are one pool. A pair for
    which nothing was found is left out; where there is less than `per_query`, negatives are repeated.
    """

    stage: Literal["mine"]
    data: Annotated[list[str], Field(min_length=1)]
    model: str = "e5-small"
    together: bool = False
    mode: Mode = "hybrid"
    top_k: Annotated[int, Field(gt=0)] = 100
    per_language: Annotated[int, Field(ge=0)] = 0
    max_ratio: float | None = 0.95
    margin: float | None = None
    same_scale: bool = True
    cross_encoder: str | None = None
    cross_max_ratio: float = 0.95
    per_query: Annotated[int, Field(gt=0)] = 7
    strategy: Strategy = "top"
    other_languages: Annotated[float, Field(ge=0, le=1)] = 0.0

    def inputs(self) -> list[str]:
        """Sets and models."""
        return [*self.data, self.model, *([self.cross_encoder] if self.cross_encoder else [])]


class _Source(NamedTuple):
    """Where a set's pairs come from."""

    stage: DataStage
    set: RetrievalSet
    root: Path

    def folders(self) -> list[Path]:
        return folders_of(self.root, self.set.folders)

    def address(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix()


Key = tuple[str, str, str]
"""Of a pair: its source, the question's id and the passage's."""


def run_mine(stage: MineStage, context: StageContext) -> StageResult:
    """Mine, and write each set with `negative_1` and so on, their ids and languages.

    Raises:
        InputError: a set is none of questions and passages, an index cannot be built, or a negative is
            evaluated on.
    """
    names = set_names(stage.data, stage.name)
    sources = {name: _source(address, context) for name, address in names.items()}
    found: dict[Key, list[Candidate]] = {}
    together = _join(list(sources.values()), context) if stage.together else None
    for source in sources.values():
        for folder in source.folders():
            index = _index(together or folder, stage, context)
            for split in splits_of(source.set, folder):
                found |= _mine(folder, split, index, source.address(folder), stage, context)
    reports = {}
    leaks = {
        one.stage.name: _leaks(found, evaluated_by(one.stage, one.root, context)) for one in sources.values()
    }
    for name, source in sources.items():
        rows, report = _with_negatives(
            load_set(names[name], context), found, leaks[source.stage.name], stage.per_query
        )
        _check(rows, report, names[name], source, stage)
        write_rows(rows, context.folder / name)
        reports[name] = report
    (context.folder / "mine.json").write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
    remove(context.folder / "indexes")
    return StageResult(details={"sets": reports})


def _check(rows: Rows, report: dict[str, int], address: str, source: _Source, stage: MineStage) -> None:
    if report["leaks"] and source.stage.on_leak == "fail":
        raise InputError(
            f"Stage '{stage.name}' found {report['leaks']} negatives for '{address}' that are evaluated on: "
            f"take them out of their folders, or drop them with `on_leak: drop` in '{source.stage.name}'."
        )
    if not rows:
        raise InputError(f"Stage '{stage.name}' found no negatives for '{address}'.")


def _source(address: str, context: StageContext) -> _Source:
    found = source_of(address, context.recipe)
    if found is None or not isinstance(found[1], RetrievalSet):
        raise InputError(
            f"Stage '{context.stage.name}' mines for '{address}', which is no set of `kind: retrieval` of a "
            "stage `data`."
        )
    return _Source(found[0], found[1], context.input_path(found[0].root))


def _join(sources: Sequence[_Source], context: StageContext) -> Path:
    """A corpus of all passages of all folders."""
    path = context.folder / "indexes" / "together" / "corpus.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    owners: dict[str, Path] = {}
    with atomic_file(path) as file:
        for folder in dict.fromkeys(folder for source in sources for folder in source.folders()):
            for document in open_source(folder).documents():
                other = owners.setdefault(document.doc_id, folder)
                if other != folder:
                    raise InputError(
                        f"{other} and {folder} both have a passage '{document.doc_id}': mine them apart, "
                        "with `together: false`."
                    )
                record = {"_id": document.doc_id, "title": document.title, "text": document.text}
                record["lang"] = document.lang
                file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
    return path


def _index(collection: Path, stage: MineStage, context: StageContext) -> Path:
    """An index of a folder's passages, or of all; a finished one is used again."""
    from mretrieve.index.manifest import is_index
    from mretrieve.indexing import build_index

    name = collection.parent.name if collection.is_file() else collection.name
    path = context.folder / "indexes" / f"{name}.index"
    if is_index(path):
        return path
    path.parent.mkdir(exist_ok=True)
    model, words = context.model_name(stage.model), stage.mode != "dense"
    build_index(collection, path, model=model, device=context.device, lexical=words)
    return path


def _mine(
    folder: Path, split: str, index: Path, address: str, stage: MineStage, context: StageContext
) -> dict[Key, list[Candidate]]:
    """The negatives of each pair of a split."""
    from mretrieve.mine.mining import mine
    from mretrieve.mine.pool import Pool
    from mretrieve.mine.task import MiningOptions
    from mretrieve.mine.triples import read_triples

    triples = context.folder / "triples" / f"{address.replace('/', '-')}-{split}.jsonl.gz"
    if not triples.is_file():
        triples.parent.mkdir(exist_ok=True)
        cross_encoder = context.model_name(stage.cross_encoder) if stage.cross_encoder else None
        chosen = {name: getattr(stage, name) for name in _OPTIONS}
        options = MiningOptions(
            split=split,
            groups=_parallel(folder, context),
            seed=context.seed,
            cross_encoder=cross_encoder,
            **chosen,
        )

        def tell(label: str, done: int, total: int | None) -> None:
            context.on_progress(f"{stage.name}: {address} {split}", done, total)

        mine(folder, triples, Pool(index, device=context.device), options=options, on_progress=tell)
    return {
        (address, one.query.query_id, one.positive.document.doc_id): list(one.negatives)
        for one in read_triples(triples)
    }


_OPTIONS = (
    *("mode", "top_k", "per_language", "max_ratio", "margin", "same_scale", "cross_max_ratio"),
    *("per_query", "strategy", "other_languages"),
)


def _parallel(folder: Path, context: StageContext) -> str | None:
    """A file that tells which passages say the same in several languages, if any do."""
    groups = parallel_groups(sorted((folder / "qrels").glob("*.tsv"))).documents
    languages: dict[str, set[str]] = {}
    for document in open_source(folder).documents():
        if document.doc_id in groups:
            languages.setdefault(groups[document.doc_id], set()).add(document.lang)
    members = [(group, doc_id) for doc_id, group in groups.items() if len(languages.get(group, ())) > 1]
    if not members:
        return None
    path = context.folder / "triples" / f"{folder.name}-parallel.tsv"
    path.write_text("".join(f"{group}\t{doc_id}\n" for group, doc_id in sorted(members)), encoding="utf-8")
    return str(path)


def _with_negatives(
    pairs: Any, found: dict[Key, list[Candidate]], leaks: set[str], number: int
) -> tuple[Rows, dict[str, int]]:
    """Pairs with so many negatives each, and how many pairs there were and came to nothing."""
    counts: Counter[str] = Counter()
    rows: Rows = []
    for row in pairs:
        counts["pairs"] += 1
        own = found.get((row["source"], row["anchor_id"], row["positive_id"]), [])
        left = [one for one in own if one.document.doc_id not in leaks]
        counts["leaks"] += len(own) - len(left)
        if not left:
            counts["without negatives"] += 1
            continue
        counts["with fewer"] += len(left) < number
        chosen = [left[place % len(left)] for place in range(number)]
        rows.append(row | dict(_columns(chosen)))
    keys = ("pairs", "without negatives", "with fewer", "leaks")
    return rows, {key: counts[key] for key in keys}


def _columns(chosen: Sequence[Candidate]) -> Iterator[tuple[str, Any]]:
    for place, one in enumerate(chosen, start=1):
        yield f"negative_{place}", one.document.contents
    yield "negative_ids", [one.document.doc_id for one in chosen]
    yield "negative_languages", [one.document.lang for one in chosen]


def _leaks(found: dict[Key, list[Candidate]], evaluated: Evaluated) -> set[str]:
    """Ids of negatives that are evaluated on."""
    by_language: dict[str, dict[str, str]] = {}
    for negatives in found.values():
        for one in negatives:
            by_language.setdefault(one.document.lang, {})[one.document.doc_id] = one.document.contents
    leaks: set[str] = set()
    for language, texts in by_language.items():
        reasons = evaluated.leaks(language, [normalize(text) for text in texts.values()])
        leaks |= {doc_id for doc_id, reason in zip(texts, reasons, strict=True) if reason}
    return leaks
