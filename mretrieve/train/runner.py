"""Run a recipe: its stages in order, each in its own folder; finished ones are skipped, others resumed."""

import contextlib
import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from mretrieve.errors import InputError
from mretrieve.files import atomic_file, locked
from mretrieve.train.context import OnProgress, StageContext, rank
from mretrieve.train.recipe import Recipe, Stage, fingerprint, read_training_recipe, stage_of
from mretrieve.train.stages import STAGES

logger = logging.getLogger(__name__)

RUNS = Path("training/runs")
"""Where runs go that are given no folder: one each, named after its recipe."""

DONE = "stage.json"
_STARTED = "started.json"


@dataclass(frozen=True)
class StageReport:
    """What became of a stage: `done` now or `skipped` because it was done before."""

    name: str
    kind: str
    status: str
    seconds: float
    scores: dict[str, float]
    details: dict[str, Any]


@dataclass(frozen=True)
class RunReport:
    """A finished run."""

    folder: Path
    stages: tuple[StageReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"folder": str(self.folder), "stages": [asdict(stage) for stage in self.stages]}


def run_recipe(
    path: Path | str,
    *,
    run_folder: Path | str | None = None,
    on_progress: OnProgress | None = None,
    smoke: bool = False,
    changes: dict[str, Any] | None = None,
    device: str = "auto",
) -> RunReport:
    """Run all stages of a recipe that are not finished yet.

    Under torchrun every process calls this; the stages that do not train run in the first one alone.

    Args:
        path: the recipe.
        run_folder: where everything goes; `training/runs/NAME` by default. An interrupted run goes on.
        on_progress: told of a stage's name, how much of it is done, and of how much.
        smoke: run the recipe's small version.
        changes: by stage, keys to change, as `override` in a recipe.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        What became of each stage, with scores.

    Raises:
        InputError: the recipe or the data are wrong, the folder belongs to another recipe, or training had
            to stop (a loss that is no number).
    """
    from mretrieve.encode.choose import find_device

    # Threads that wait for each other sleep soon, which costs an idle machine nothing and keeps a busy one
    # from standing still; the library reads this once, when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    recipe = read_training_recipe(path, smoke=smoke, changes=changes)
    folder = Path(run_folder or RUNS / (recipe.name + ("-smoke" if smoke else "")))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) if rank() == 0 else contextlib.nullcontext(), _log_file(folder):
        return _run(recipe, folder, find_device(device), on_progress or (lambda *_: None))


def _run(recipe: Recipe, folder: Path, device: str, on_progress: OnProgress) -> RunReport:
    keys = stage_keys(recipe)
    _check_folder(folder, recipe, keys)
    if rank() == 0:
        _write_recipe(folder, recipe)
    reports = []
    for stage in recipe.stages:
        context = StageContext(recipe, stage, folder, recipe.seed_of(stage), device, on_progress)
        reports.append(_run_stage(context, keys))
    report = RunReport(folder, tuple(reports))
    if rank() == 0:
        _write_json(folder / "report.json", report.to_dict())
    return report


def _run_stage(context: StageContext, keys: dict[str, str]) -> StageReport:
    stage, folder = context.stage, context.folder
    kind = STAGES[stage.stage]
    while rank() != 0 and not kind.distributed and not (folder / DONE).is_file():
        time.sleep(1.0)  # torchrun ends this process if the first one fails
    finished = _read_json(folder / DONE)
    if finished is not None:
        logger.info("Stage '%s' is done already.", stage.name)
        return StageReport(
            stage.name,
            stage.stage,
            "skipped",
            finished["seconds"],
            finished["scores"],
            finished["details"],
        )
    folder.mkdir(parents=True, exist_ok=True)
    if rank() == 0:
        _write_json(folder / _STARTED, {"key": keys[stage.name], "parameters": stage.settled()})
    logger.info("Stage '%s' (%s) starts, seed %d.", stage.name, stage.stage, context.seed)
    context.on_progress(stage.name, 0, None)
    start = time.monotonic()
    result = kind.run(stage, context)
    seconds = round(time.monotonic() - start, 1)
    while rank() != 0 and not (folder / DONE).is_file():
        time.sleep(1.0)  # what the next stage reads, the first process alone writes
    if rank() == 0:
        content = {
            "key": keys[stage.name],
            "parameters": stage.settled(),
            "seed": context.seed,
            "code": code_version(),
            "data": context.fingerprints,
            "seconds": seconds,
            "scores": result.scores,
            "details": result.details,
        }
        _write_json(folder / DONE, content)
    logger.info("Stage '%s' is done after %.0f s.", stage.name, seconds)
    return StageReport(stage.name, stage.stage, "done", seconds, result.scores, result.details)


def stage_keys(recipe: Recipe) -> dict[str, str]:
    """Digest of each stage's parameters and seed and, by their digests, of the stages that it reads."""
    keys: dict[str, str] = {}
    for stage in recipe.stages:
        read = [other.name for text in stage.inputs() if (other := stage_of(text, recipe)) is not None]
        keys[stage.name] = fingerprint(
            [stage.settled(), recipe.seed_of(stage), [keys[name] for name in sorted(set(read))]]
        )
    return keys


def finished_stages(folder: Path) -> dict[str, str]:
    """Name -> digest, as `stage_keys` has them, of the stages that a run folder holds whole."""
    found = {path.parent.name: _read_json(path) for path in sorted(folder.glob(f"*/{DONE}"))}
    return {name: content["key"] for name, content in found.items() if content is not None}


def _check_folder(folder: Path, recipe: Recipe, keys: dict[str, str]) -> None:
    """Raise InputError if a stage in the folder was made with other parameters, or begun and is to go on."""
    for stage in recipe.stages:
        own = folder / stage.name
        pattern = STAGES[stage.stage].unfinished
        found = _read_json(own / DONE)
        if found is None and pattern and any(own.glob(pattern)):
            found = _read_json(own / _STARTED)
        if found is not None and found["key"] != keys[stage.name]:
            raise InputError(
                f"The run folder {folder} holds stage '{stage.name}' of another recipe "
                f"({_difference(found['parameters'], stage)}). Give another run folder, or remove {own} "
                "to run it and what follows anew."
            )


def _difference(before: dict[str, Any], stage: Stage) -> str:
    now = stage.settled()
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            return f"{key}: {_short(before.get(key))} there, {_short(now.get(key))} here"
    return "a stage that it reads is different, or the seed"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def code_version() -> str:
    """The package's version and, in a checkout of it, the commit."""
    name = f"mretrieve {version('mretrieve')}"
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--tags"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return name
    return f"{name} ({done.stdout.strip()})"


def _write_recipe(folder: Path, recipe: Recipe) -> None:
    text = yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
    with atomic_file(folder / "recipe.yaml") as file:
        file.write(f"# {recipe.path.name} as it ran, by {code_version()}\n{text}".encode())


def _write_json(path: Path, content: object) -> None:
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@contextlib.contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    """Have the package's log also in `log.txt`, from the first process."""
    if rank() != 0:
        yield
        return
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger("mretrieve")
    level = package.level
    package.addHandler(handler)
    if package.getEffectiveLevel() > logging.INFO:
        package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()
