"""Pictures of scores: over categories, over the parts of one category, and under a threshold."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from anomaly_lib.views.plots.style import (
    ANOMALOUS,
    FONT_SIZE,
    GOOD,
    GREY,
    INK,
    LINE_COLOURS,
    MARKERS,
    PALE,
    SMALL_FONT_SIZE,
    axes_or_new,
    category_name,
    height_in_points,
    metric_name,
    shorten,
    tidy,
)

METRICS = ("instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc")
_NO_THRESHOLDS: Mapping[str, float] = MappingProxyType({})
_BLOCK = 1 << 22  # scores binned at a time: 100 million pixels need no second copy in memory
_MOST_RUG_MARKS = 1000
_LOG_BASELINE = 0.7  # below a count of one, so that a single pixel is a visible bar
_LINE_STYLES = ("-", "--", ":", "-.")
_LABEL_ROW = 1.55 * FONT_SIZE  # points


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
    ax = axes_or_new(ax, 9.5, 0.7 + 0.3 * (head + rows))
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


def plot_score_histogram(
    scores: ArrayLike,
    labels: ArrayLike,
    thresholds: Mapping[str, float] = _NO_THRESHOLDS,
    *,
    unit: str = "image score",
    log: bool = False,
    bins: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each score occurs among good and among anomalous images or pixels, and named thresholds.

    Parameters
    ----------
    scores, labels
        Arrays of one shape, (n,) for images or (n, h, w) for pixels; a label is true where anomalous. Up to a
        thousand scores are also marked one by one above the axis.
    thresholds
        Name to value, drawn as labelled lines; a score at or above the line counts as anomalous.
    unit
        Says on the axis what is scored.
    log
        Count on a logarithmic axis, which pixels need: a defect covers few of them.
    bins
        Number of bins; by default 30 for images and 100 for more than a thousand scores.

    Raises
    ------
    ValueError
        If the shapes differ, there is no score, or a score is not finite.

    Examples
    --------
    >>> plot_score_histogram(maps, masks, {"F1-optimal": 2.3}, unit="pixel score", log=True)
    """
    values, marks = _checked(scores, labels)
    counts, edges = _binned(values, marks, bins or (30 if values.size <= _MOST_RUG_MARKS else 100))
    ax = axes_or_new(ax, 9.5, 3.6)
    base = _LOG_BASELINE if log else 0.0
    names = [f"{name} (n = {n:,})" for name, n in zip(("good", "anomalous"), counts.sum(axis=1), strict=True)]
    for count, colour, name in zip(counts, (GOOD, ANOMALOUS), names, strict=True):
        heights = np.maximum(count, base)
        ax.stairs(heights, edges, baseline=base, fill=True, color=colour, alpha=0.35)
        ax.stairs(heights, edges, baseline=base, color=colour, linewidth=1.3, label=name)
    rug = values.size <= _MOST_RUG_MARKS
    if rug:
        _draw_rug(ax, values, marks != 0)
    _scale_counts(ax, int(counts.max()), log, below=0.12 if rug else 0.0, rows=1 + len(thresholds))
    _draw_thresholds(ax, thresholds, (edges[0], edges[-1]))
    ax.set_xlabel(unit, fontsize=FONT_SIZE)
    ax.set_ylabel(
        f"number of {unit.split()[0]}s" if unit.endswith(" score") else "number", fontsize=FONT_SIZE
    )
    ax.legend(
        loc="upper left", ncols=2, fontsize=SMALL_FONT_SIZE, frameon=False, borderpad=0.1, borderaxespad=0.4
    )
    tidy(ax)
    return ax


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.floating], NDArray[Any]]:
    """Both as arrays, without a copy where they are arrays already."""
    values, marks = np.asarray(scores), np.asarray(labels)
    if values.shape != marks.shape:
        raise ValueError(f"Scores of shape {values.shape} do not go with labels of shape {marks.shape}.")
    if not values.size:
        raise ValueError("There are no scores to draw.")
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise ValueError("A score is not finite (NaN or infinity).")
    return values, marks


def _blocks(
    values: NDArray[np.floating], marks: NDArray[Any]
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.bool_]]]:
    """Cut both along the first axis into flat pieces of about `_BLOCK` elements."""
    step = max(1, _BLOCK * len(values) // values.size)
    for start in range(0, len(values), step):
        yield values[start : start + step].ravel(), marks[start : start + step].ravel() != 0


def _binned(
    values: NDArray[np.floating], marks: NDArray[Any], bins: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count good and anomalous in common bins (2, bins); also return the edges (bins + 1,)."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = np.zeros(2 * bins, dtype=np.int64)
    for block, positive in _blocks(values, marks):
        # One pass for both groups: the anomalous ones count `bins` places further on.
        places = ((block - low) * (bins / (high - low))).astype(np.intp)
        np.minimum(places, bins - 1, out=places)
        places += bins * positive
        counts += np.bincount(places, minlength=2 * bins)
    return counts.reshape(2, bins), np.linspace(low, high, bins + 1)


def _draw_rug(ax: Axes, values: NDArray[np.floating], truth: NDArray[np.bool_]) -> None:
    """One tick a score in two lanes below the bars, whatever the axis of the counts."""
    lanes = ((~truth, GOOD, 0.01), (truth, ANOMALOUS, 0.06))
    for chosen, colour, bottom in lanes:
        ax.vlines(
            values[chosen],
            bottom,
            bottom + 0.04,
            transform=ax.get_xaxis_transform(),
            color=colour,
            linewidth=1.0,
            alpha=0.8,
        )


def _scale_counts(ax: Axes, highest: int, log: bool, *, below: float, rows: int) -> None:
    """Leave a share `below` of the height to the rug and room for `rows` lines of text over the bars."""
    above = min(0.5, (rows * _LABEL_ROW + 4) / height_in_points(ax))
    bars = 1.0 - above - below
    if log:
        decades = np.log10(highest / _LOG_BASELINE)
        ax.set_yscale("log")
        ax.set_ylim(_LOG_BASELINE * 10 ** (-decades * below / bars), highest * 10 ** (decades * above / bars))
        # Few counts span no two powers of ten, by which a logarithmic axis is read.
        ticks = np.array([1, 2, 5, 10, 20, 50]) if highest < 100 else 10 ** np.arange(10)
        ticks = ticks[ticks <= highest]
        ax.set_yticks(ticks, [str(tick) for tick in ticks] if highest < 100 else None)
        ax.minorticks_off()
    else:
        ticks = np.asarray(MaxNLocator(nbins=5, integer=True).tick_values(0, highest))
        ax.set_yticks(ticks[(ticks >= 0) & (ticks <= highest)])
        ax.set_ylim(-highest * below / bars, highest * (1 + above / bars))
    ax.axhline(_LOG_BASELINE if log else 0.0, color=GREY, linewidth=0.8)


def _draw_thresholds(ax: Axes, thresholds: Mapping[str, float], limits: tuple[float, float]) -> None:
    """Draw the lines with a line of text to each, so that labels do not meet however close the lines are."""
    finite = [value for value in thresholds.values() if np.isfinite(value)]
    low, high = min([limits[0], *finite]), max([limits[1], *finite])
    margin = 0.02 * (high - low)
    ax.set_xlim(low - margin, high + margin)
    places = {name: value if np.isfinite(value) else high for name, value in thresholds.items()}
    for row, (name, x, on_left) in enumerate(_label_rows(places, (low + high) / 2), start=1):
        depth = row * _LABEL_ROW + 4
        drawn = np.isfinite(thresholds[name])
        if drawn:
            top = 1.0 - depth / height_in_points(ax)
            ax.axvline(x, ymax=top, color=INK, linewidth=1.4, linestyle=_LINE_STYLES[(row - 1) % 4])
        ax.annotate(
            f"{name} {thresholds[name]:.5g}{'' if drawn else ' (not drawn)'}",
            (x, 1.0),
            xycoords=ax.get_xaxis_transform(),
            xytext=(-4 if on_left else 4, -depth),
            textcoords="offset points",
            ha="right" if on_left else "left",
            va="top",
            fontsize=FONT_SIZE,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )


def _label_rows(places: Mapping[str, float], middle: float) -> list[tuple[str, float, bool]]:
    """Name, place and whether the text goes to the left of the line, from the top row down.

    Text runs towards the middle, and of the lines on one side the outermost has the top row: the lines that
    its text passes over end below it.
    """
    items = sorted(places.items(), key=lambda item: item[1])
    right = [(name, x, False) for name, x in items if x <= middle]
    left = [(name, x, True) for name, x in reversed(items) if x > middle]
    return [*right, *left]


def plot_confusion(scores: ArrayLike, labels: ArrayLike, threshold: float, *, ax: Axes | None = None) -> Axes:
    """Draw every image as a point right (anomalous) or left of a threshold, and mark and count the mistakes.

    Made to be drawn again at every move of a slider: the axes keep their limits while the threshold is within
    the scores.

    Parameters
    ----------
    scores, labels
        Arrays (n,); a label is true where the image is anomalous.
    threshold
        A score at or above it is called anomalous.

    Raises
    ------
    ValueError
        If the shapes differ, there is no score, or a score is not finite.
    """
    values, marks = _checked(scores, labels)
    truth = marks != 0
    called = values >= np.float64(threshold)
    ax = axes_or_new(ax, 9.5, 2.8)
    lanes = ((~truth, GOOD, "o", "good"), (truth, ANOMALOUS, "D", "anomalous"))
    for lane, (chosen, colour, marker, _) in enumerate(lanes):
        _draw_lane(ax, values[chosen], lane, colour, marker, wrong=called[chosen] != bool(lane))
    shown = [*values, threshold] if np.isfinite(threshold) else values
    low, high = float(np.min(shown)), float(np.max(shown))
    margin = 0.04 * (high - low) or 0.5
    ax.set_xlim(low - margin, high + margin)
    if np.isfinite(threshold):
        ax.axvspan(threshold, high + margin, color=PALE, alpha=0.45, linewidth=0, zorder=0)
        ax.axvline(threshold, color=INK, linewidth=1.4)
    ax.set_yticks([0, 1], [f"{name}\n(n = {chosen.sum()})" for chosen, _, _, name in lanes])
    ax.set_ylim(-0.6, 1.6)
    ax.set_title(_mistakes(truth, called, threshold), fontsize=FONT_SIZE, loc="left")
    ax.set_xlabel("image score (grey: called anomalous; ✕: mistake)", fontsize=FONT_SIZE)
    tidy(ax)
    return ax


def _draw_lane(
    ax: Axes, values: NDArray[np.floating], lane: int, colour: str, marker: str, *, wrong: NDArray[np.bool_]
) -> None:
    """Points of one truth around the height `lane`, the mistakes crossed out."""
    # Multiples of the golden ratio spread neighbours in height, the same way at every call.
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    heights = lane + 0.7 * ((order * 0.618034 + 0.5) % 1.0 - 0.5)
    ax.plot(values, heights, marker, color=colour, markersize=7, alpha=0.7, markeredgewidth=0)
    ax.plot(values[wrong], heights[wrong], "x", color=INK, markersize=8, markeredgewidth=1.8)


def _mistakes(truth: NDArray[np.bool_], called: NDArray[np.bool_], threshold: float) -> str:
    """Count what a threshold gets wrong, in one line."""
    missed, alarms = int((truth & ~called).sum()), int((~truth & called).sum())
    return (
        f"threshold {threshold:.5g}:  missed defects {missed} of {truth.sum()},  "
        f"false alarms {alarms} of {(~truth).sum()}"
    )
