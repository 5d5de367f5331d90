"""Tables and plots of reproduced scores beside published ones: Markdown, CSV, and a picture per language."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path

from mretrieve import files
from mretrieve.datasets.address import parse_address
from mretrieve.datasets.catalogue import benchmarks
from mretrieve.datasets.published import published
from mretrieve.errors import MissingDependencyError
from mretrieve.reproduction import Reproduction

FIELDS = ("benchmark", "split", "measure", "system", "source", "language", "score", "published", "difference")
"""Columns of the CSV, with the verdict after them."""

_DPI = 110


@dataclass(frozen=True, slots=True)
class Row:
    """One system on one measure of one split of a benchmark.

    Attributes:
        benchmark: key of the catalogue.
        split: of the benchmark.
        measure: what the scores are.
        system: its name.
        ours: whether it was measured here.
        source: where the scores are from.
        scores: language -> score.
        verdicts: language -> (published score, verdict), of ours.
        published_mean: over all languages of the benchmark, where it is published without all of them.
    """

    benchmark: str
    split: str
    measure: str
    system: str
    ours: bool
    source: str
    scores: dict[str, float]
    verdicts: dict[str, tuple[float | None, str]]
    published_mean: float | None = None

    def mean(self, languages: Sequence[str]) -> float | None:
        """Mean over languages; None where one is missing."""
        if any(lang not in self.scores for lang in languages):
            return (
                self.published_mean if set(languages) >= set(benchmarks()[self.benchmark].languages) else None
            )
        return fsum(self.scores[lang] for lang in languages) / len(languages)


def write_report(out: Path, results: Sequence[Reproduction]) -> list[Path]:
    """Write `table.md`, `table.csv` and `plots/BENCHMARK-LANGUAGE.png`.

    Args:
        out: folder to write into.
        results: of benchmarks of the catalogue.

    Returns:
        What was written. Plots are left out where matplotlib is not installed.
    """
    rows = table_rows(results)
    written = [_write(out / "table.md", markdown(rows)), _write(out / "table.csv", as_csv(rows))]
    try:
        written += _plots(out / "plots", rows)
    except MissingDependencyError:
        return written
    return written


def table_rows(results: Sequence[Reproduction]) -> list[Row]:
    """Ours first, then the published systems, for each measure of each benchmark."""
    rows: list[Row] = []
    grouped: dict[tuple[str, str], list[Reproduction]] = {}
    for result in results:
        grouped.setdefault((parse_address(result.address).kind, result.split), []).append(result)
    for (key, split), group in grouped.items():
        for measure in benchmarks()[key].measures:
            rows += _ours(key, split, measure, group)
            for one in published(key, split):
                if measure in one.measures or measure in one.means:
                    scores, mean = dict(one.measures.get(measure, {})), one.means.get(measure)
                    rows.append(Row(key, split, measure, one.name, False, one.source, scores, {}, mean))
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """A table for each benchmark and measure: systems down, languages across, ours in bold; then verdicts."""
    blocks = ["# Reproduced and published scores"]
    for key, split, measure in dict.fromkeys((row.benchmark, row.split, row.measure) for row in rows):
        mine = [row for row in rows if (row.benchmark, row.split, row.measure) == (key, split, measure)]
        languages = _languages(mine)
        mine = [row for row in mine if row.mean(languages) or row.scores.keys() & set(languages)]
        header = ["system", *languages, f"mean of {len(languages)}"]
        lines = [_line(header), _line(["---"] * len(header))]
        for row in mine:
            mark = "**" if row.ours else ""
            cells = [_cell(row.scores.get(lang), mark) for lang in languages]
            lines.append(_line([f"{mark}{row.system}{mark}", *cells, _cell(row.mean(languages), mark)]))
        blocks += [f"## {benchmarks()[key].title}, {split}: {measure}", "\n".join(lines)]
        blocks += ["\n".join(_verdicts(mine))]
        sources = dict.fromkeys(f"- {row.system}: {row.source}" for row in mine if not row.ours)
        blocks += ["Sources:", "\n".join(sources)] if sources else []
    return "\n\n".join(block for block in blocks if block) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """One line for each score."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIELDS, "verdict"])
    for row in rows:
        for lang, score in row.scores.items():
            other, verdict = row.verdicts.get(lang, (None, ""))
            difference = "" if other is None else f"{score - other:+.4f}"
            cells = [row.benchmark, row.split, row.measure, row.system, row.source, lang, f"{score:.4f}"]
            writer.writerow([*cells, "" if other is None else f"{other:.4f}", difference, verdict])
        if row.published_mean is not None:
            cells = [row.benchmark, row.split, row.measure, row.system, row.source, "mean"]
            writer.writerow([*cells, f"{row.published_mean:.4f}", "", "", ""])
    return text.getvalue()


def _ours(key: str, split: str, measure: str, group: Sequence[Reproduction]) -> list[Row]:
    rows: dict[str, Row] = {}
    for result in group:
        name = f"mretrieve {result.retriever}" + (f" ({result.model})" if result.model else "")
        row = rows.setdefault(name, Row(key, split, measure, name, True, "measured", {}, {}))
        lang = parse_address(result.address).lang or "all"
        for score in result.scores:
            if score.measure == measure:
                row.scores[lang] = score.measured
                row.verdicts[lang] = (score.published, score.verdict)
    return [row for row in rows.values() if row.scores]


def _languages(rows: Sequence[Row]) -> list[str]:
    """Those that were measured, in the order of the catalogue."""
    measured = {lang for row in rows if row.ours for lang in row.scores}
    return sorted(measured)


def _verdicts(rows: Sequence[Row]) -> list[str]:
    """What the differences say, a line for each of ours."""
    lines = []
    for row in rows:
        said: dict[str, list[str]] = {}
        for lang, (other, verdict) in row.verdicts.items():
            by = "" if other is None else f" {row.scores[lang] - other:+.4f}"
            said.setdefault(verdict, []).append(f"{lang}{by}")
        parts = [f"{verdict}: {', '.join(languages)}" for verdict, languages in said.items()]
        if parts:
            lines.append(f"- {row.system}: {'; '.join(parts)}")
    return lines


def _cell(score: float | None, mark: str) -> str:
    return "" if score is None else f"{mark}{score:.3f}{mark}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plots(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Bars of all systems in a language, ours in another colour."""
    written = []
    for key, split in dict.fromkeys((row.benchmark, row.split) for row in rows):
        mine = [row for row in rows if (row.benchmark, row.split) == (key, split)]
        for lang in _languages(mine):
            path = folder / f"{key}-{split}-{lang}.png"
            folder.mkdir(parents=True, exist_ok=True)
            _plot(path, [row for row in mine if lang in row.scores], lang)
            written.append(path)
    return written


def _plot(path: Path, rows: Sequence[Row], lang: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Plots need matplotlib, which is not installed. Run `pip install 'mretrieve[train]'`."
        ) from error
    measures = list(dict.fromkeys(row.measure for row in rows))
    n_bars = max(sum(row.measure == measure for row in rows) for measure in measures)
    figure = Figure(figsize=(5.5 * len(measures), 1.2 + 0.3 * n_bars), layout="constrained")
    grid = figure.subplots(1, len(measures), squeeze=False)[0]
    for axes, measure in zip(grid, measures, strict=True):
        bars = sorted((r for r in rows if r.measure == measure), key=lambda row: row.scores[lang])
        colours = ["tab:orange" if row.ours else "tab:blue" for row in bars]
        drawn = axes.barh([row.system for row in bars], [row.scores[lang] for row in bars], color=colours)
        axes.bar_label(drawn, fmt="%.3f", fontsize=7, padding=2)
        axes.set_xlim(0, 1)
        axes.tick_params(labelsize=7)
        axes.set_title(f"{rows[0].benchmark} {lang}, {rows[0].split}: {measure}", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    with files.atomic_file(path) as file:
        file.write(buffer.getvalue())


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_file(path) as file:
        file.write(text.encode())
    return path
