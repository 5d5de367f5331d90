"""The stage `data`: pairs of texts from retrieval sets and parallel text, checked and written as Arrow.

Each set becomes a folder of the library `datasets` beside `licences.json`, which names everything that went
in, and `data.json`, which counts it.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mretrieve.datasets.heldout import (
    NTREX_TRAINING_ROWS,
    held_out_mlqa,
    read_held_out_languages,
)
from mretrieve.errors import InputError
from mretrieve.files import sha256_of
from mretrieve.languages import normalize_language
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.leakage import Evaluated, check_training_folder, drop_duplicates, drop_leaks
from mretrieve.train.pairs import (
    COLUMNS,
    Pair,
    drop_held_out,
    read_parallel_questions,
    read_parallel_text,
    read_retrieval,
    sample_parallel,
)
from mretrieve.train.recipe import Part, Recipe, Stage, stage_of
from mretrieve.train.sets import write_set

logger = logging.getLogger(__name__)


class RetrievalSet(Part):
    """Questions with their passages, from folders of the BEIR layout (patterns below `root`)."""

    kind: Literal["retrieval"]
    folders: list[str]
    splits: list[str] = ["train"]
    languages: list[str] | None = None
    max_pairs: Annotated[int, Field(gt=0)] | None = None


class QuestionSet(Part):
    """Questions that ask the same in two languages; `same` is a pattern that finds them by their ids."""

    kind: Literal["questions"]
    folders: list[str]
    splits: list[str] = ["train"]
    same: str
    languages: list[str] | None = None
    max_pairs: Annotated[int, Field(gt=0)] | None = None


class ParallelSet(Part):
    """Sentences that say the same in two languages; see `sample_parallel`."""

    kind: Literal["parallel"]
    files: list[str]
    pairs: Annotated[int, Field(gt=0)]
    english: Annotated[float, Field(ge=0, le=1)] = 0.3
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    languages: list[str] | None = None


AnySet = Annotated[RetrievalSet | QuestionSet | ParallelSet, Field(discriminator="kind")]


class DataStage(Stage):
    """Parameters of the stage.

    `evaluation` and `topics` are what training data is compared with: folders of the BEIR layout and files
    of topics, as patterns below `root`. `hold_out_languages` is a list, or a file with one code a line.
    A pair that is evaluated on stops the run; with `on_leak: drop` it is dropped and counted.
    """

    stage: Literal["data"]
    root: str
    sets: dict[str, AnySet]
    evaluation: list[str]
    topics: list[str] = []
    hold_out_languages: list[str] | str = []
    on_leak: Literal["drop", "fail"] = "fail"


@dataclass
class _Report:
    """What a set came to."""

    pairs: int
    by_language: dict[str, int]
    by_source: dict[str, int]
    dropped: dict[str, int]
    examples: list[str]


def run_data(stage: DataStage, context: StageContext) -> StageResult:
    """Read, check and write all sets of the stage.

    Raises:
        InputError: a folder, file or split is missing, is meant for evaluation, or holds nothing in a
            language that was asked for.
    """
    root = context.input_path(stage.root)
    evaluation = folders_of(root, stage.evaluation)
    for one in stage.sets.values():  # before the long part
        if not isinstance(one, ParallelSet):
            for folder in folders_of(root, one.folders):
                check_training_folder(folder, one.splits, evaluation)
    held_out = _held_out_languages(stage, context)
    evaluated = evaluated_by(stage, root, context)
    reports: dict[str, Any] = {}
    sources: set[str] = set()
    for number, (name, one) in enumerate(stage.sets.items()):
        context.on_progress(f"{stage.name}: {name}", number, len(stage.sets))
        pairs = drop_held_out(_read_set(one, root, context, held_out), held_out)
        kept, report = _check(name, list(pairs), evaluated, one, stage)
        _write(kept, context.folder / name)
        reports[name] = asdict(report)
        sources |= report.by_source.keys()
    licences = licences_of(root, sources)
    for file, content in (("data.json", reports), ("licences.json", licences)):
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (context.folder / file).write_text(text, encoding="utf-8")
    return StageResult(details={"sets": {name: report["pairs"] for name, report in reports.items()}})


def folders_of(root: Path, patterns: Sequence[str]) -> list[Path]:
    """Folders with a corpus below `root` that the patterns name; `!PATTERN` takes away.

    Raises:
        InputError: a pattern meets none.
    """
    found: list[Path] = []
    for pattern in patterns:
        if pattern.startswith("!"):
            found = [path for path in found if not fnmatch(path.relative_to(root).as_posix(), pattern[1:])]
            continue
        new = [path for path in sorted(root.glob(pattern)) if (path / "qrels").is_dir()]
        if not new:
            raise InputError(f"There is no data set {root / pattern}: no folder with a corpus and qrels.")
        found += [path for path in new if path not in found]
    return found


def _files(root: Path, patterns: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        new = sorted(path for path in root.glob(pattern) if path.is_file())
        if not new:
            raise InputError(f"There is no file {root / pattern}.")
        found += new
    return found


def _held_out_languages(stage: DataStage, context: StageContext) -> frozenset[str]:
    given = stage.hold_out_languages
    codes = read_held_out_languages(context.input_path(given)) if isinstance(given, str) else given
    return frozenset(normalize_language(code) for code in codes)


def evaluated_by(stage: DataStage, root: Path, context: StageContext) -> Evaluated:
    """All that the stage's data are compared with."""
    evaluated = Evaluated()
    folders = folders_of(root, stage.evaluation)
    for number, folder in enumerate(folders):
        context.on_progress(f"{stage.name}: evaluation sets", number, len(folders))
        evaluated.add_set(folder)
        _remember(context, folder, root)
    for file in _files(root, stage.topics):
        evaluated.add_questions(file)
    return evaluated


def _read_set(
    one: RetrievalSet | QuestionSet | ParallelSet,
    root: Path,
    context: StageContext,
    held_out: frozenset[str],
) -> Iterator[Pair]:
    languages = None if one.languages is None else {normalize_language(code) for code in one.languages}
    if isinstance(one, ParallelSet):
        yield from _read_parallel(one, root, context, held_out, languages)
        return
    for folder in folders_of(root, one.folders):
        _remember(context, folder, root)
        address = folder.relative_to(root).as_posix()
        splits = splits_of(one, folder)
        if isinstance(one, QuestionSet):
            pairs = read_parallel_questions(folder, splits, address=address, same=one.same)
        else:
            pairs = read_retrieval(folder, splits, address=address)
        hidden, hidden_questions = (
            held_out_mlqa(folder) if folder.name == "multi-mlqa" else (frozenset(), frozenset())
        )
        for pair in pairs:
            in_set = languages is None or {pair.language, pair.positive_language} <= languages
            if in_set and pair.positive_id not in hidden and pair.anchor_id not in hidden_questions:
                yield pair


def splits_of(one: RetrievalSet | QuestionSet, folder: Path) -> list[str]:
    """Those of a set's splits that a folder has; if it has none, all, so that their lack is told."""
    splits = [split for split in one.splits if (folder / "qrels" / f"{split}.tsv").is_file()]
    return splits or one.splits


def _read_parallel(
    one: ParallelSet,
    root: Path,
    context: StageContext,
    held_out: frozenset[str],
    languages: set[str] | None,
) -> Iterator[Pair]:
    texts = []
    for file in _files(root, one.files):
        _remember(context, file, root)
        keep = NTREX_TRAINING_ROWS if file.name.startswith("ntrex-128") else None
        texts.append(read_parallel_text(file, address=file.relative_to(root).as_posix(), keep=keep))
    yield from sample_parallel(
        texts,
        one.pairs,
        english=one.english,
        temperature=one.temperature,
        without=held_out,
        only=languages,
        seed=context.seed,
    )


def _check(
    name: str,
    pairs: list[Pair],
    evaluated: Evaluated,
    one: RetrievalSet | QuestionSet | ParallelSet,
    stage: DataStage,
) -> tuple[list[Pair], _Report]:
    kept, leaks, examples = drop_leaks(pairs, evaluated)
    if leaks and stage.on_leak == "fail":
        raise InputError(
            f"Set '{name}' of stage '{stage.name}' holds {leaks.total()} pairs that are evaluated on, such "
            f"as {examples[0]}. Take them out, or drop them with `on_leak: drop`."
        )
    kept, repeated = drop_duplicates(kept)
    dropped = dict(leaks) | ({"equal to another pair": repeated} if repeated else {})
    limit = None if isinstance(one, ParallelSet) else one.max_pairs
    if limit is not None:
        kept = kept[:: max(len(kept) // limit, 1)][:limit]
    languages = Counter(pair.positive_language for pair in kept)
    languages.update(pair.language for pair in kept if pair.language != pair.positive_language)
    missing = [code for code in one.languages or [] if not languages[normalize_language(code)]]
    if missing or not kept:
        what = f"no pairs in {', '.join(missing)}" if missing else "no pairs"
        raise InputError(
            f"Set '{name}' of stage '{stage.name}' holds {what}: leave the language out, or add data."
        )
    for reason, count in dropped.items():
        logger.info("Set '%s': %d pairs dropped, %s.", name, count, reason)
    report = _Report(
        len(kept),
        dict(sorted(languages.items())),
        dict(Counter(pair.source for pair in kept)),
        dropped,
        examples,
    )
    return kept, report


def _write(pairs: Sequence[Pair], folder: Path) -> None:
    write_set({name: [getattr(pair, name) for pair in pairs] for name in COLUMNS}, folder)


def source_of(address: str, recipe: Recipe) -> "tuple[DataStage, AnySet] | None":
    """The stage `data` and the set in it that an address names, if it names one."""
    stage = stage_of(address, recipe)
    found = stage.sets.get(address.rpartition("/")[2]) if isinstance(stage, DataStage) else None
    return None if found is None or not isinstance(stage, DataStage) else (stage, found)


def _remember(context: StageContext, path: Path, root: Path) -> None:
    """Keep the digest of what was read."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        context.fingerprints[file.relative_to(root).as_posix()] = sha256_of(file)[:16]


def licences_of(root: Path, sources: set[str]) -> list[dict[str, str]]:
    """Licence and origin of each source, as the data's own manifest tells them."""
    file = root / "manifest.json"
    manifest: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    known = {entry["path"]: entry for entry in manifest}
    found = []
    for source in sorted(sources):
        entry = known.get(source) or known.get(source.removesuffix(".jsonl.xz")) or {}
        found.append(
            {
                "source": source,
                "licence": str(entry.get("licence", "unknown")),
                "from": str(entry.get("source", "")),
                "about": str(entry.get("about", "")),
            }
        )
    return found
