"""The curve of recall over search time, as numbers and as a picture."""

import json
from pathlib import Path

from mretrieve import files
from mretrieve.errors import MissingDependencyError
from mretrieve.index.tune_index import Tuned


def write_recall_curve(tuned: Tuned, path: Path) -> list[Path]:
    """Write the measured settings as JSON, and as a picture beside it where matplotlib is installed.

    Args:
        tuned: what was measured.
        path: PNG to write; the JSON has the same name with another ending.

    Returns:
        The files written.

    Raises:
        InputError: the folder cannot be written.
        MissingDependencyError: matplotlib is not installed; the JSON is written before.
    """
    numbers = path.with_suffix(".json")
    with files.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_file(numbers) as file:
            file.write((json.dumps(tuned.to_dict(), indent=1) + "\n").encode())
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"The curve's numbers are in {numbers}; its picture needs matplotlib. "
            "Run `pip install 'mretrieve[train]'`."
        ) from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    frontier = tuned.frontier()
    axes.plot([p.milliseconds for p in tuned.points], [p.recall for p in tuned.points], "x", color="0.6")
    axes.plot([p.milliseconds for p in frontier], [p.recall for p in frontier], "o-", label="fastest")
    axes.axhline(tuned.target, color="0.4", ls=":", label=f"wanted: {tuned.target:g}")
    if tuned.chosen is not None:
        axes.plot([tuned.chosen.milliseconds], [tuned.chosen.recall], "*", ms=15, label=tuned.chosen.search)
    axes.axvline(tuned.exact_milliseconds, color="C3", ls="--", label="exact search")
    axes.set(xscale="log", xlabel="milliseconds per query, queries together", ylabel=f"recall@{tuned.top_k}")
    axes.set_title(f"{tuned.factory}, {tuned.vectors:,} vectors, {tuned.queries:,} queries", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with files.storage_errors(path), files.atomic_file(path) as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=110, metadata={"Software": None})
    return [path, numbers]
