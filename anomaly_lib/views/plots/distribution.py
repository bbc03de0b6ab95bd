"""Scores over categories: every metric of each, and each metric over all."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from anomaly_lib.views.plots.style import (
    FONT_SIZE,
    GREY,
    INK,
    LINE_COLOURS,
    MARKERS,
    PALE,
    SMALL_FONT_SIZE,
    WIDTH,
    axes_or_new,
    category_name,
    metric_name,
    shorten,
    tidy,
)

METRICS = ("instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc")


def plot_score_distribution(
    results: pd.DataFrame, metrics: Sequence[str] = METRICS, *, ax: Axes | None = None
) -> Axes:
    """Draw every metric of every category, the best on top, and below that each metric over all categories.

    Parameters
    ----------
    results
        The table of `results.csv`: one row a category, named by the column or the index `Row Names`. A row
        `Mean` is left out and the mean is taken anew; an empty cell has no mark and no part in the mean.
    metrics
        Columns to draw, the first of which orders the categories; those not in the table are passed over.

    Raises
    ------
    ValueError
        If the table holds none of the metrics or no category.
    """
    table = _category_table(results, metrics)
    several = len(table) > 1
    head = 0.3 + 0.65 * table.shape[1]  # rows of the legend
    rows = len(table) + (0.6 + 0.8 * table.shape[1] if several else 0.0)
    ax = axes_or_new(ax, WIDTH, 0.7 + 0.3 * (head + rows))
    _draw_categories(ax, table)
    if several:
        _draw_summaries(ax, table)
    values = table.to_numpy()
    low, high = _limits(values[np.isfinite(values)])
    ax.set_xlim(low, high + 0.02 * (high - low))
    ax.set_ylim(rows - 0.4, -0.5 - head)
    ax.grid(axis="x", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("score of the category (1 is perfect)", fontsize=FONT_SIZE)
    ax.legend(loc="upper left", frameon=False, fontsize=SMALL_FONT_SIZE, borderaxespad=0.2)
    tidy(ax)
    ax.tick_params(axis="y", length=0)
    return ax


def _category_table(results: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Rows of categories in the order of the first metric, columns of metrics, all floats."""
    table = results.set_index("Row Names") if "Row Names" in results.columns else results
    present = [name for name in metrics if name in table.columns]
    if not present:
        raise ValueError(
            f"The results hold none of {', '.join(metrics)}; columns: {', '.join(table.columns)}."
        )
    table = table.loc[[str(row) != "Mean" for row in table.index], present].astype(float)
    if table.empty:
        raise ValueError("The results hold no category.")
    return table.sort_values(present[0], ascending=False, na_position="last", kind="stable")


def _draw_categories(ax: Axes, table: pd.DataFrame) -> None:
    """Draw one row a category, its marks a little apart in height, so that equal scores stay visible."""
    offsets = np.linspace(-0.2, 0.2, table.shape[1]) if table.shape[1] > 1 else np.zeros(1)
    for i, (metric, offset) in enumerate(zip(table.columns, offsets, strict=True)):
        values = table[metric].to_numpy()
        kind = "mean " if len(values) > 1 else ""
        mean = f"{kind}{np.nanmean(values):.3f}" if np.isfinite(values).any() else "no value"
        ax.plot(
            values,
            np.arange(len(values)) + offset,
            linestyle="none",
            marker=MARKERS[i % len(MARKERS)],
            color=LINE_COLOURS[i % len(LINE_COLOURS)],
            markersize=6,
            label=f"{metric_name(str(metric))} ({mean})",
        )
    ax.set_yticks(range(len(table)), [shorten(category_name(row), 28) for row in table.index])


def _draw_summaries(ax: Axes, table: pd.DataFrame) -> None:
    """Draw a box (quartiles, whiskers to the extremes) and a diamond at the mean, one row a metric."""
    first = len(table) + 0.5
    ax.axhline(len(table) - 0.4, color=GREY, linewidth=0.8)
    for i, metric in enumerate(table.columns):
        values = table[metric].dropna().to_numpy()
        if not len(values):
            continue
        colour = LINE_COLOURS[i % len(LINE_COLOURS)]
        ax.boxplot(
            values,
            positions=[first + 0.8 * i],
            orientation="horizontal",
            widths=0.5,
            whis=(0, 100),
            manage_ticks=False,
            patch_artist=True,
            showmeans=True,
            boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            medianprops={"color": colour, "linewidth": 2},
            meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": INK, "markersize": 6},
        )
    middle = first + 0.4 * (table.shape[1] - 1)
    names = [label.get_text() for label in ax.get_yticklabels()]
    ax.set_yticks([*range(len(table)), middle], [*names, "all categories\n(box, ◇ mean)"])


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Find the ends of the axis: close to the scores, but the same for similar results."""
    if not len(values):
        return 0.5, 1.0
    low = np.floor((float(values.min()) - 0.005) * 20) / 20  # steps of 0.05
    return float(low), max(1.0, float(values.max()))
