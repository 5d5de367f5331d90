"""Plots of a routing report, drawn without a display and without matplotlib's global state."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.understand.extras import optional

_DPI = 110
_MANY = 24
"""Languages from which on a legend would hide the curves."""


def plot_load(
    path: Path, load: NDArray[np.float64], *, languages: Sequence[str], layers: Sequence[int]
) -> None:
    """One heat map per layer: languages down, experts across, the share of slots as colour.

    Args:
        path: PNG to write.
        load: (n_layers, n_languages, n_experts), sums to 1 along the last axis.
        languages: labels.
        layers: numbers of the layers.
    """
    n_columns = min(len(layers), 6)
    n_rows = -(-len(layers) // n_columns)
    height = 1.2 + 0.17 * len(languages)
    figure = _figure(1.0 + 2.0 * n_columns, n_rows * height)
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    top = float(load.max())
    image = None
    for place, axes in enumerate(grid.flat):
        if place >= len(layers):
            axes.set_axis_off()
            continue
        image = axes.imshow(load[place], aspect="auto", vmin=0.0, vmax=top, cmap="viridis")
        axes.set_title(f"layer {layers[place]}", fontsize=9)
        axes.set_xticks(range(load.shape[2]))
        axes.tick_params(labelsize=6)
        axes.set_yticks(range(len(languages)), languages, fontsize=7)
    figure.colorbar(image, ax=grid, shrink=0.6, label="share of slots")
    figure.supxlabel("expert", fontsize=9)
    _save(figure, path)


def plot_divergence(
    path: Path, divergence: NDArray[np.float64], *, languages: Sequence[str], layers: Sequence[int]
) -> None:
    """A curve over the layers for each language.

    Args:
        path: PNG to write.
        divergence: (n_layers, n_languages) from English, normalised; English itself is left out.
        languages: labels.
        layers: numbers of the layers.
    """
    figure = _figure(8.0, 5.0)
    axes = figure.subplots()
    colours = optional("matplotlib").colormaps["turbo"](np.linspace(0.03, 0.97, len(languages)))
    for place, language in enumerate(languages):
        if language != "en":
            axes.plot(
                layers, divergence[:, place], color=colours[place], marker="o", ms=3, lw=1.2, label=language
            )
    axes.set_xticks(layers)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("layer")
    axes.set_ylabel("divergence from English, normalised")
    axes.grid(alpha=0.3)
    n_curves = len(axes.get_lines())
    if 0 < n_curves <= _MANY:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=-(-n_curves // 16))
    _save(figure, path)


def plot_tree(path: Path, tree: NDArray[np.float64], *, languages: Sequence[str]) -> None:
    """The dendrogram of languages.

    Args:
        path: PNG to write.
        tree: as `language_tree` gives it.
        languages: labels in the order of the distances.
    """
    figure = _figure(7.0, 1.0 + 0.2 * len(languages))
    axes = figure.subplots()
    optional("scipy.cluster.hierarchy").dendrogram(
        tree, labels=list(languages), orientation="left", ax=axes, leaf_font_size=8, color_threshold=0.0
    )
    axes.set_xlabel("Jensen-Shannon distance of routing, mean over layers")
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    """A figure of so many inches; what does not fit under matplotlib's greatest size is drawn smaller."""
    return optional("matplotlib.figure").Figure(figsize=(width, min(height, 200.0)), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    canvas = optional("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    # No date or version in the file, so that the same report gives the same bytes.
    canvas.print_figure(path, dpi=_DPI, metadata={"Software": None})
