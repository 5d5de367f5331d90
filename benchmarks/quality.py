"""How well models rank, within and across languages: one table, with tests of significance.

`python benchmarks/quality.py --model e5-small --model FOLDER` measures every set with every model and
compares each model with the first: the difference, its 95% bootstrap interval, the p-value of a paired
randomisation test (Holm-corrected over the rows), the limit that a better model has to reach, and whether it
does. Questions that are translations of each other are drawn and swapped together.

Nothing here is trained or tuned on. `--tuning` measures on tuning splits instead, in under two minutes, to
choose models by.

Each text is encoded once per model and kept in the user's cache: a run that is stopped goes on where it was,
and a second one with the same models takes a minute or two.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, need, print_table, write_json
from quality_sets import SETS, Measure, Measured, Scores
from quality_tuning import TUNING_SETS
from vectors import VectorStore

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.evaluate.significance import Comparison, compare, holm
from mretrieve.progress import progress


@dataclass(frozen=True)
class Limit:
    """What a model has to reach: a score, or a difference to the first model."""

    bound: float
    of: str = "difference"
    at_most: bool = False

    def __str__(self) -> str:
        sign = "+" if self.of == "difference" else ""
        return f"{'≤' if self.at_most else '≥'} {self.bound:{sign}.3f}"

    def verdict(self, score: float, difference: float) -> str:
        """Whether the limit is kept."""
        value = score if self.of == "score" else difference
        kept = value <= self.bound if self.at_most else value >= self.bound
        return "reached" if kept else "missed"


@dataclass(frozen=True)
class Line:
    """One row of the table.

    Attributes:
        set_name: the set.
        measure: one of its measures.
        label: what the row is called.
        limit: what to reach.
        counts: whether the row is part of the mean over all sets.
        worst: show the part whose difference is worst instead of the mean.
    """

    set_name: str
    measure: str
    label: str
    limit: Limit | None = None
    counts: bool = True
    worst: bool = False


LINES = (
    Line("xquad-r", "mAP", "XQuAD-R, 11 languages, one pool (mAP)", Limit(0.66, "score")),
    Line(
        "xquad-r",
        "own language first",
        "— first hits in the question's own language",
        Limit(0.45, "score", at_most=True),
        counts=False,
    ),
    Line("xquad", "nDCG@10", "XQuAD, 12 languages, own paragraphs (mean nDCG@10)", Limit(-0.005)),
    Line("xquad-cross", "nDCG@10", "XQuAD, question in X, paragraphs in Y, 132 pairs (mean)", Limit(0.03)),
    Line("xquad-cross", "nDCG@10", "— the worst pair", Limit(-0.01), counts=False, worst=True),
    Line("tydi", "nDCG@10", "TyDi QA ar, en, id, ko, sw, own pool (mean nDCG@10)", Limit(-0.003)),
    Line("pooled", "nDCG@10", "Pooled: TyDi QA and MLQA in every passage (mean nDCG@10)", Limit(0.02)),
    Line("pooled", "R@100", "— R@100", Limit(0.02), counts=False),
    Line("pooled", "nDCG@10, own", "— only passages in the question's language count as right", counts=False),
    Line("mlqa-xling", "nDCG@10", "MLQA test-xling (nDCG@10)", Limit(0.03)),
    Line("mlqa-xling", "nDCG@10, own aside", "— right answers in its own language aside", counts=False),
    Line("afriqa", "nDCG@10", "AfriQA test (nDCG@10)", Limit(0.05)),
    Line("held-out-languages", "accuracy", "NTREX, 20 languages never trained on (accuracy)", Limit(0.0)),
)

TUNING_LINES = (
    Line("mlqa-pool", "mAP", "MLQA held out, 7 languages, one pool (mAP)"),
    Line("mlqa-pool", "own language first", "— first hits in the question's own language", counts=False),
    Line("mlqa-sentences", "mAP", "MLQA held out, sentences of 7 languages, one pool (mAP)"),
    Line("mlqa-sentences", "own language first", "— first hits in the question's own language", counts=False),
    Line("mlqa-sentences", "MRR within", "— among the sentences of one language (MRR)", counts=False),
    Line("dev", "nDCG@10", "Dev questions, 13 languages, own pool (mean nDCG@10)"),
    Line("afriqa-dev", "nDCG@10", "AfriQA dev (mean nDCG@10)"),
    Line("ntrex-dev", "accuracy", "NTREX, 12 languages, rows held out (accuracy)"),
)

MEAN = "mean"

Models = Mapping[str, Mapping[str, Measured]]
"""Model -> set -> its measures."""

Figures = dict[str, Any]
"""What is told of one row, or of one model in one row, as it goes into JSON."""


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = arguments(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", action="append", help="name, folder or hub id; several times to compare")
    parser.add_argument(
        "--sets", help=f"only these, of {','.join(SETS)}; with --tuning {','.join(TUNING_SETS)}"
    )
    parser.add_argument("--tuning", action="store_true", help="measure on tuning splits")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--dtype", default="auto", help="auto, fp32, bf16 or int8")
    options = parser.parse_args(given)
    names = options.model or ["e5-small"]
    try:
        need(options.data)
        chosen = choose_sets(options.sets, tuning=options.tuning)
        if len(set(names)) < len(names):
            raise InputError("A model was named twice: name each once.")
        encoders = {name: Encoder(name, device=options.device, dtype=options.dtype) for name in names}
        with progress(resumable=True) as on_progress:
            stores = {
                name: VectorStore(encoder, on_progress=on_progress) for name, encoder in encoders.items()
            }
            models = {name: measure_all(options.data, store, chosen) for name, store in stores.items()}
    except InputError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    report = make_report(models, TUNING_LINES if options.tuning else LINES)
    print_report(report, names)
    for name, store in stores.items():
        print(f"{name}: {len(store):,} texts were encoded in {store.seconds:,.0f} s.", file=sys.stderr)
    write_json(options.json, {"models": {n: e.fingerprint for n, e in encoders.items()}, "lines": report})


def choose_sets(names: str | None, *, tuning: bool) -> dict[str, Measure]:
    """The sets that were asked for.

    Raises:
        InputError: there is no such set.
    """
    known = TUNING_SETS if tuning else SETS
    chosen = [name.strip() for name in names.split(",")] if names is not None else list(known)
    for name in chosen:
        if name not in known:
            raise InputError(f"There is no set '{name}'. Choose from: {', '.join(known)}.")
    return {name: known[name] for name in known if name in chosen}


def measure_all(data: Path, store: VectorStore, sets: Mapping[str, Measure]) -> dict[str, Measured]:
    """All measures of one model: set -> measure -> values."""
    measured = {}
    for name, measure in sets.items():
        print(f"{store.encoder.name}: {name} ...", file=sys.stderr)
        measured[name] = measure(data, store)
    return measured


def make_report(models: Models, lines: Sequence[Line]) -> list[Figures]:
    """The rows of the table with all their figures, for the sets that were measured.

    Returns:
        For each row its label, set, measure and limit, and for each model its score, its parts' scores and,
        for all but the first, how it compares with the first.
    """
    first, *others = models
    lines = [line for line in lines if line.set_name in models[first]]
    rows: list[Figures] = []
    for line in lines:
        scores = {name: measured[line.set_name][line.measure] for name, measured in models.items()}
        row: Figures = {"label": line.label, "set": line.set_name, "measure": line.measure}
        row["limit"] = str(line.limit or "")
        row["models"] = {name: _figures(line, scores[name], scores[first]) for name in models}
        rows.append(row)
    for name in others:
        figures = [row["models"][name] for row in rows if "p" in row["models"][name]]
        for one, corrected in zip(figures, holm([one["p"] for one in figures]), strict=True):
            one["p_holm"] = corrected
    n_counted = sum(line.counts for line in lines)
    return [*rows, _mean_row(models, lines)] if n_counted > 1 else rows


def _figures(line: Line, scores: Scores, base: Scores) -> Figures:
    """What one model reached in one row."""
    if line.worst:
        return {} if scores is base else _worst_part(line, scores, base)
    figures: Figures = {"score": scores.score, "parts": scores.means()}
    if scores is base:
        return figures
    result: Comparison = compare(
        base.values,
        scores.values,
        groups=scores.parts if scores.by_part else None,
        clusters=scores.clusters,
    )
    figures |= {"difference": result.difference, "low": result.low, "high": result.high, "p": result.p_value}
    if line.limit:
        figures["verdict"] = line.limit.verdict(scores.score, result.difference)
    return figures


def _worst_part(line: Line, scores: Scores, base: Scores) -> Figures:
    before, after = base.means(), scores.means()
    differences = {part: after[part] - before[part] for part in after}
    worst = min(differences, key=differences.__getitem__)
    assert line.limit is not None
    n_beyond = sum(value < line.limit.bound for value in differences.values())
    return {
        "part": worst,
        "difference": differences[worst],
        "n_beyond_limit": n_beyond,
        "verdict": line.limit.verdict(after[worst], differences[worst]),
    }


def _mean_row(models: Models, lines: Sequence[Line]) -> Figures:
    """The mean of the rows that count, each once."""
    counted = [line for line in lines if line.counts]
    means = {
        name: float(np.mean([measured[line.set_name][line.measure].score for line in counted]))
        for name, measured in models.items()
    }
    first, *others = means
    figures: dict[str, Figures] = {name: {"score": mean} for name, mean in means.items()}
    for name in others:
        figures[name]["difference"] = means[name] - means[first]
    return {
        "label": f"mean of {len(counted)} sets",
        "set": MEAN,
        "measure": MEAN,
        "limit": "",
        "models": figures,
    }


def print_report(report: Sequence[Figures], names: Sequence[str]) -> None:
    """Print the table."""
    header = ["set (measure)", names[0]]
    for name in names[1:]:
        header += [name, "difference [95%]", "p", "verdict"]
    rows: list[list[object]] = []
    for line in report:
        row: list[object] = [line["label"]]
        for number, name in enumerate(names):
            figures = line["models"][name]
            row.append(figures.get("score", figures.get("part", "")))
            if number:
                row += [_difference(figures), _p(figures), figures.get("verdict", "")]
        rows.append([*row, line["limit"]])
    print_table([*header, "limit"], rows)


def _difference(figures: Figures) -> str:
    if "low" not in figures:
        return f"{figures['difference']:+.4f}"
    return f"{figures['difference']:+.4f} [{figures['low']:+.4f}, {figures['high']:+.4f}]"


def _p(figures: Figures) -> str:
    if "p_holm" not in figures:
        return ""
    return "< 0.001" if figures["p_holm"] < 0.001 else f"{figures['p_holm']:.3f}"


if __name__ == "__main__":
    main()
