"""Train all recipes and compare what each changes: one table, with intervals, unattended.

`python benchmarks/ablations.py --json ablations.json` runs every recipe of `training/`, the first one
(`moe-small`) and then its ablations, measures the last model of each on the sets of `quality.py`, and
compares each with the first: the difference, its 95% bootstrap interval, and the p-value of a paired
randomisation test, corrected over the sets.

A stage that two recipes have in common is made once. Stopped, the same command goes on where it was: finished
stages are kept, training goes on from its checkpoint, and each text is encoded once per model. A recipe that
fails is told of in the table, and the others run. The figures so far are written after each recipe.
"""

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import ROOT, arguments, need, print_table, write_json
from quality import LINES, MEAN, Models, choose_sets, make_report, measure_all
from quality_sets import SETS, Measure, Measured
from vectors import VectorStore

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.progress import OnProgress, progress
from mretrieve.train.recipe import read_training_recipe
from mretrieve.train.runner import RUNS, finished_stages, run_recipe, stage_keys

logger = logging.getLogger(__name__)

MAIN = "moe-small"

Figures = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is run and measured.

    Attributes:
        recipes: files, the one first that the others are compared with.
        runs: folder of all run folders.
        data: the data folder.
        sets: by name, of `quality_sets`.
        device: `auto`, `cpu` or `cuda`.
        smoke: run the small versions.
        changes: by recipe, keys to change in its stages, as in `run_recipe`.
    """

    recipes: Sequence[Path]
    runs: Path
    data: Path
    sets: Mapping[str, Measure]
    device: str = "auto"
    smoke: bool = False
    changes: Mapping[str, Mapping[str, Any]] | None = None


def main(given: Sequence[str] | None = None) -> None:
    """Train, measure and print the table."""
    parser = arguments(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--recipe", action="append", help=f"only these beside {MAIN}, by name")
    parser.add_argument("--runs", type=Path, default=ROOT / RUNS, help="folder of the run folders")
    parser.add_argument("--sets", help=f"only these, of {','.join(SETS)}")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--smoke", action="store_true", help="the small versions, to see that all works")
    options = parser.parse_args(given)
    try:
        plan = Plan(
            choose_recipes(options.recipe),
            options.runs,
            need(options.data),
            choose_sets(options.sets, tuning=False),
            options.device,
            options.smoke,
        )
        with progress(resumable=True) as on_progress:
            report = run_all(plan, json_file=options.json, on_progress=on_progress)
    except InputError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    print_report(report)


def choose_recipes(names: Sequence[str] | None, folder: Path = ROOT / "training") -> list[Path]:
    """The recipes that were asked for, the main one first.

    Raises:
        InputError: there is no such recipe.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    for name in names or ():
        if name not in known:
            raise InputError(f"There is no recipe '{name}' in {folder}. Choose from: {', '.join(known)}.")
    chosen = [name for name in known if name != MAIN and (names is None or name in names)]
    return [known[MAIN], *(known[name] for name in chosen)]


def run_all(plan: Plan, *, json_file: Path | None, on_progress: OnProgress) -> Figures:
    """Train and measure everything that is not done yet.

    Returns:
        `lines` as `quality.make_report` has them, `stages` with seconds and scores by recipe, and `failed`
        with what was wrong.

    Raises:
        InputError: the first recipe failed, with which all others are compared.
    """
    measured: dict[str, dict[str, Measured]] = {}
    report: Figures = {"lines": [], "stages": {}, "failed": {}}
    before: list[Path] = []
    for recipe in plan.recipes:
        name, run = recipe.stem, plan.runs / (recipe.stem + ("-smoke" if plan.smoke else ""))
        changes = dict((plan.changes or {}).get(name, {}))
        print(f"{name} ...", file=sys.stderr)
        try:
            share_stages(recipe, run, before, smoke=plan.smoke, changes=changes)
            done = run_recipe(
                recipe,
                run_folder=run,
                smoke=plan.smoke,
                changes=changes,
                device=plan.device,
                on_progress=on_progress,
            )
            encoder = Encoder(str(run / done.stages[-1].name / "model"), device=plan.device)
            store = VectorStore(encoder, on_progress=on_progress)
            measured[name] = measure_all(plan.data, store, plan.sets)
        except InputError as error:
            if not measured:
                raise
            report["failed"][name] = str(error)
        else:
            report["stages"][name] = done.to_dict()["stages"]
            before.append(run)
        report["lines"] = compare_all(measured)
        write_json(json_file, report)
    return report


def share_stages(
    recipe: Path, run: Path, others: Sequence[Path], *, smoke: bool, changes: dict[str, Any] | None = None
) -> list[str]:
    """Give a run the stages that other runs have finished with the same parameters and inputs.

    Files are linked where the file system allows it, else copied.

    Returns:
        The names of the stages that were taken over.
    """
    keys = stage_keys(read_training_recipe(recipe, smoke=smoke, changes=changes))
    taken = []
    for other in others:
        for name, key in finished_stages(other).items():
            target = run / name
            if keys.get(name) == key and not target.exists():
                building = run / f"{name}.building"
                shutil.rmtree(building, ignore_errors=True)
                shutil.copytree(other / name, building, copy_function=_link)
                building.rename(target)
                taken.append(name)
    return taken


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def compare_all(models: Models) -> list[Figures]:
    """The lines of `quality.py`, without limits: an ablation has none to keep."""
    return make_report(models, [replace(line, limit=None) for line in LINES if not line.worst])


def print_report(report: Figures) -> None:
    """Print a row for each recipe: its scores, and behind them the differences to the first."""
    lines = report["lines"]
    rows: list[list[object]] = []
    for name in lines[0]["models"]:
        row: list[object] = [name]
        for line in lines:
            figures = line["models"][name]
            text = f"{figures['score']:.4f}"
            if "low" in figures:
                text += f" ({figures['difference']:+.4f} [{figures['low']:+.4f}, {figures['high']:+.4f}])"
            elif "difference" in figures:
                text += f" ({figures['difference']:+.4f})"
            row.append(text)
        rows.append(row)
    rows += [[name, f"failed: {why}"] + [""] * (len(lines) - 1) for name, why in report["failed"].items()]
    print_table(["recipe", *(_label(line) for line in lines)], rows)


def _label(line: Figures) -> str:
    return str(line["label"]) if line["set"] == MEAN else f"{line['set']} ({line['measure']})"


if __name__ == "__main__":
    main()
