"""Whether a threshold is from scores like those of good parts that the model has never seen."""

import math

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from anomaly_lib.views.plots.scores import checked
from anomaly_lib.views.plots.style import (
    BLUE,
    FONT_SIZE,
    INK,
    ORANGE,
    SMALL_FONT_SIZE,
    WIDTH,
    axes_or_new,
    tidy,
)


def plot_calibration(
    calibration_scores: ArrayLike, fresh_scores: ArrayLike, threshold: float, *, ax: Axes | None = None
) -> Axes:
    """Draw which share of images reaches each score: of those the threshold is from, and of fresh good ones.

    The two curves should lie close together: where the fresh ones lie to the right, good parts will be called
    anomalous more often than was promised; where they lie to the left, defects are missed for nothing.

    Parameters
    ----------
    calibration_scores, fresh_scores
        (n,) and (m,) scores of good images: `Detector.calibration_`, and any the model was not fitted on.
    threshold
        The model's: scores are drawn in units of it, or as they are where it is nan.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = plot_calibration([1.0, 1.5, 3.0], [1.2, 2.0], 3.1, ax=Figure().subplots())
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['calibration (n = 3)', 'fresh good parts (n = 2)']
    """
    unit = threshold if threshold > 0 and math.isfinite(threshold) else 1.0
    ax = axes_or_new(ax, WIDTH, 3.2)
    curves = (
        ("calibration", calibration_scores, BLUE, "-"),
        ("fresh good parts", fresh_scores, ORANGE, "--"),
    )
    for name, scores, colour, style in curves:
        values = np.sort(checked(scores, np.zeros(np.shape(scores)))[0]) / unit
        shares = 1 - np.arange(len(values) + 1) / len(values)
        ax.stairs(
            shares[:-1],
            np.concatenate([[0.0], values]),
            baseline=None,
            color=colour,
            linestyle=style,
            linewidth=1.8,
            label=f"{name} (n = {len(values)})",
        )
    if unit != 1.0:
        ax.axvline(1.0, color=INK, linewidth=1)
        ax.text(1.0, 1.03, " threshold", fontsize=SMALL_FONT_SIZE, color=INK)
    ax.set_xlabel("share of the threshold" if unit != 1.0 else "image score", fontsize=FONT_SIZE)
    ax.set_ylabel("share that reaches it", fontsize=FONT_SIZE)
    ax.set_ylim(0, 1.1)
    ax.set_xlim(left=0)
    ax.legend(fontsize=SMALL_FONT_SIZE, frameon=False, loc="lower left")
    tidy(ax)
    return ax
