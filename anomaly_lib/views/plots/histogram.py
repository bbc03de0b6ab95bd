"""Scores of one category: how often each occurs among its good and its anomalous images or pixels."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from anomaly_lib.views.plots.scores import checked
from anomaly_lib.views.plots.style import (
    ANOMALOUS,
    FONT_SIZE,
    GOOD,
    GREY,
    INK,
    SMALL_FONT_SIZE,
    WIDTH,
    axes_or_new,
    height_in_points,
    tidy,
)

SCORE_IN_THRESHOLDS = "image score, in units of the model's threshold"
"""What to call scores that were divided by it."""

_NO_THRESHOLDS: Mapping[str, float] = MappingProxyType({})
_BLOCK = 1 << 22  # scores binned at a time: 100 million pixels need no second copy in memory
_MOST_RUG_MARKS = 1000
_LOG_BASELINE = 0.7  # below a count of one, so that a single pixel is a visible bar
_LINE_STYLES = ("-", "--", ":", "-.")
_LABEL_ROW = 1.55 * FONT_SIZE  # points


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
    >>> from matplotlib.figure import Figure
    >>> ax = plot_score_histogram([1.0, 1.5, 3.0], [0, 0, 1], {"F1-optimal": 3.0}, ax=Figure().subplots())
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['good (n = 2)', 'anomalous (n = 1)']
    """
    values, marks = checked(scores, labels)
    counts, edges = _binned(values, marks, bins or (30 if values.size <= _MOST_RUG_MARKS else 100))
    ax = axes_or_new(ax, WIDTH, 3.6)
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
    ax.set_ylabel(f"number of {unit.split()[0]}s" if " score" in unit else "number", fontsize=FONT_SIZE)
    ax.legend(
        loc="upper left", ncols=2, fontsize=SMALL_FONT_SIZE, frameon=False, borderpad=0.1, borderaxespad=0.4
    )
    tidy(ax)
    return ax


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
            f"{name} {thresholds[name]:.4g}{'' if drawn else ' (not drawn)'}",
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
