"""Losses and tuning scores over the steps of a run, as JSON and as a picture."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Curves = dict[str, list[tuple[int, float]]]
"""Name -> (step, value)."""

_NO_CURVE = {"epoch", "step", "total_flos", "train_runtime", "eval_runtime", "eval_samples_per_second"}
_NO_CURVE |= {"eval_steps_per_second", "train_samples_per_second", "train_steps_per_second"}


def read_curves(history: Sequence[Mapping[str, Any]]) -> Curves:
    """The trainer's log as curves; tuning scores are those that begin with `eval_`."""
    curves: Curves = defaultdict(list)
    for entry in history:
        for name, value in entry.items():
            if name not in _NO_CURVE and isinstance(value, int | float):
                curves[name].append((int(entry["step"]), float(value)))
    return dict(curves)


def write_curves(curves: Curves, folder: Path, *, title: str) -> None:
    """Write `curves.json` and, where matplotlib is installed, `curves.png`."""
    text = json.dumps(curves, indent=1) + "\n"
    (folder / "curves.json").write_text(text, encoding="utf-8")
    try:
        from matplotlib.figure import Figure
    except ImportError:  # an extra; the numbers are in the JSON
        return
    panels = [
        ("loss", [name for name in curves if not name.startswith("eval_") and name not in _RATES]),
        ("nDCG@10 by language", [name for name in curves if name.startswith("eval_ndcg@10_")]),
        ("tuning scores", [name for name in curves if name.startswith("eval_") and "ndcg@10_" not in name]),
    ]
    panels = [(label, names) for label, names in panels if names]
    figure = Figure(figsize=(6 * max(len(panels), 1), 4.5), layout="constrained")
    for number, (label, names) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        for name in names:
            steps, values = zip(*curves[name], strict=True)
            axes.plot(steps, values, label=name.removeprefix("eval_").removeprefix("ndcg@10_"))
        axes.set(xlabel="step", title=label)
        axes.legend(fontsize=6, ncols=2)
    figure.suptitle(title)
    figure.savefig(folder / "curves.png", dpi=110)


_RATES = {"learning_rate", "grad_norm", "tokens_per_second", "examples_per_second"}
