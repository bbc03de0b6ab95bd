"""Pictures of curves: the ROC of scores, and a metric against whatever was varied."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from anomaly_lib.evaluation.metrics import rank
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
    height_in_points,
    metric_name,
    shorten,
    tidy,
)

_LONGEST_NAME = 28
_LABEL_HEIGHT = 1.25 * SMALL_FONT_SIZE  # points
_MOST_TICKS = 12


def plot_roc(scores: ArrayLike, labels: ArrayLike, *, name: str = "", ax: Axes | None = None) -> Axes:
    """Draw hits against false alarms over all thresholds; the legend gives the area under the curve.

    Further calls with the same `ax` add further curves.

    Parameters
    ----------
    scores, labels
        Arrays of one shape; a label is nonzero where anomalous. With one class alone there is no curve, and
        the legend says so.
    name
        Name of the curve in the legend.
    """
    ranking = rank(scores, labels)
    ax = axes_or_new(ax, 5.0, 4.8)
    prefix = f"{name}: " if name else ""
    if not ax.lines:
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    colour = LINE_COLOURS[(len(ax.lines) - 1) % len(LINE_COLOURS)]
    if np.isnan(ranking.auroc):
        missing = "anomalous" if ranking.negatives else "good"
        ax.plot([], [], color=colour, label=f"{prefix}no curve, nothing {missing}")
    else:
        # Level between anomalous scores, diagonal where a good score ties with one.
        alarms = np.column_stack((ranking.alarms_above, ranking.alarms)).ravel()
        x = np.concatenate(([0], alarms, [ranking.negatives])) / ranking.negatives
        y = np.repeat(np.append(0, ranking.hits), 2) / ranking.positives
        ax.plot(x, y, color=colour, linewidth=2, label=f"{prefix}AUROC {ranking.auroc:.3f}")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    ax.set_xlabel("false alarms (share of the good)", fontsize=FONT_SIZE)
    ax.set_ylabel("hits (share of the anomalous)", fontsize=FONT_SIZE)
    ax.legend(loc="lower right", frameon=False, fontsize=SMALL_FONT_SIZE)
    tidy(ax)
    return ax


def plot_metric_against(
    frame: pd.DataFrame, x: str, metric: str, *, by: str | None = "category", ax: Axes | None = None
) -> Axes:
    """Draw a metric against what was varied, one line a category, its name at the end of the line.

    Parameters
    ----------
    frame
        One row a run. Rows with the same `x` and `by` are averaged, empty cells left out.
    x
        Column that was varied, such as the image size; its own values are the ticks. Words are set out in the
        order in which they come.
    metric
        Column to draw.
    by
        Column that tells the lines apart, `None` for a single line. A category `Mean` is drawn in black.

    Raises
    ------
    ValueError
        If the metric has no value at all.
    """
    table = _lines_table(frame, x, metric, by)
    ax = axes_or_new(ax, WIDTH, max(4.0, 1.0 + 0.19 * table.shape[1]))
    numeric = bool(pd.api.types.is_numeric_dtype(table.index))
    places = table.index.to_numpy(dtype=float) if numeric else np.arange(float(len(table)))
    if not numeric or len(places) <= _MOST_TICKS:
        ax.set_xticks(places, [f"{tick:g}" if numeric else str(tick) for tick in table.index])
    for i, column in enumerate(table.columns):
        present = table[column].notna().to_numpy()
        colour = INK if column == "Mean" else LINE_COLOURS[i % len(LINE_COLOURS)]
        ax.plot(
            places[present],
            table[column].to_numpy()[present],
            color=colour,
            marker=MARKERS[(i + i // len(MARKERS)) % len(MARKERS)],
            linewidth=3 if column == "Mean" else 1.6,
            label=category_name(column),
        )
    _set_limits(ax, places, table)
    if by is not None:
        _name_lines(ax, [shorten(category_name(column), _LONGEST_NAME) for column in table.columns])
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(x.replace("_", " "), fontsize=FONT_SIZE)
    ax.set_ylabel(metric_name(metric), fontsize=FONT_SIZE)
    tidy(ax)
    return ax


def _lines_table(frame: pd.DataFrame, x: str, metric: str, by: str | None) -> pd.DataFrame:
    """Values of x down, lines across, in the order in which they come; a line without a value is left out."""
    rows = frame.dropna(subset=[metric])
    if rows.empty:
        raise ValueError(f"There is no value of {metric} to draw.")
    lines = rows[by].astype(str) if by is not None else pd.Series(metric, index=rows.index)
    table = pd.DataFrame({"x": rows[x], "line": lines, "y": rows[metric].astype(float)})
    table = table.pivot_table(values="y", index="x", columns="line", sort=False)
    return table.sort_index() if pd.api.types.is_numeric_dtype(table.index) else table


def _set_limits(ax: Axes, places: NDArray[np.float64], table: pd.DataFrame) -> None:
    """Leave room around the points; a difference of a hundredth is not to look like a cliff."""
    values = table.to_numpy()
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = max(0.08 * (high - low), 0.025)
    ax.set_ylim(low - room, min(high + room, 1.0 + 0.4 * room) if high <= 1 else high + room)
    margin = 0.04 * float(np.ptp(places)) or 0.5
    ax.set_xlim(places.min() - margin, places.max() + margin)


def _name_lines(ax: Axes, names: Sequence[str]) -> None:
    """Write each line's name right of the axes at the height of its end, moved apart where names meet."""
    low, high = ax.get_ylim()
    # A layout that is still to run takes some height away; a fifth in reserve keeps the names apart.
    gap = 1.2 * _LABEL_HEIGHT * (high - low) / height_in_points(ax)
    lines = ax.lines[-len(names) :]
    ends = [np.asarray(line.get_xydata(), dtype=float)[-1] for line in lines]
    heights = _apart(np.array([y for _, y in ends]), gap, low, high)
    for name, line, end, height in zip(names, lines, ends, heights, strict=True):
        ax.annotate(
            name,
            (end[0], end[1]),
            xytext=(1.03, height),
            textcoords=ax.get_yaxis_transform(),
            va="center",
            fontsize=SMALL_FONT_SIZE,
            color=INK,
            arrowprops={
                "arrowstyle": "-",
                "color": line.get_color(),
                "shrinkA": 1,
                "shrinkB": 4,
                "relpos": (0, 0.5),
                "linewidth": 0.8,
            },
        )


def _apart(values: NDArray[np.float64], gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Move values apart until neighbours keep a distance of `gap`, each as little as possible, from `low` up.

    They stay below `high` as far as there is room. Less the gaps below them the values may only not fall,
    which is isotonic regression.
    """
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(values))
    spread = isotonic_regression(values[order] - steps).x
    moved = np.empty_like(values)
    moved[order] = np.clip(spread, low, max(low, high - steps[-1])) + steps
    return moved
