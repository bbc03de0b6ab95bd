"""Scores of images under a threshold, and its mistakes."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from anomaly_lib.views.plots.scores import checked
from anomaly_lib.views.plots.style import ANOMALOUS, FONT_SIZE, GOOD, INK, PALE, WIDTH, axes_or_new, tidy


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
    values, marks = checked(scores, labels)
    truth = marks != 0
    called = values >= np.float64(threshold)
    ax = axes_or_new(ax, WIDTH, 2.8)
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
