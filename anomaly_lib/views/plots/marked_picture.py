"""A picture with what a detector found in it: outline, verdict, and the map in units of the threshold."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from anomaly_lib.files import new_file
from anomaly_lib.predict import Answer
from anomaly_lib.views.plots.pixels import BRIGHTEST, as_rgb
from anomaly_lib.views.plots.style import (
    ANOMALOUS,
    FONT_SIZE,
    GOOD,
    GREEN,
    INK,
    MAP_COLOURS,
    PALE,
    SKY_BLUE,
    shorten,
)

_WIDTH, _DPI, _MOST_PIXELS = 9.5, 110, 1200
_LONGEST_NAME = 70


def save_marked_picture(
    path: Path, picture: ArrayLike, answer: Answer, truth: NDArray[np.bool_] | None = None
) -> None:
    """Write what `draw_marked_picture` draws as PNG; it is there whole or not at all."""
    figure = marked_picture(picture, answer, truth)
    with new_file(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=_DPI)


def marked_picture(picture: ArrayLike, answer: Answer, truth: NDArray[np.bool_] | None = None) -> Figure:
    """Return what `draw_marked_picture` draws as a figure of its own."""
    pixels = as_rgb(picture)
    step = max(1, max(pixels.shape[:2]) // _MOST_PIXELS)
    figure = _figure(answer, pixels.shape[0] / pixels.shape[1])
    axes = figure.subplots(1, 1 if answer.map is None else 2, squeeze=False)[0]
    draw_marked_picture(axes, pixels, answer, step, truth)
    return figure


def draw_marked_picture(
    axes: NDArray[np.object_],
    picture: NDArray[np.uint8],
    answer: Answer,
    step: int = 1,
    truth: NDArray[np.bool_] | None = None,
) -> None:
    """Draw a picture (h, w, 3) with the outline of what reaches the threshold, and beside it its map.

    The map is in units of the threshold, in the same colours for all pictures: a good one looks good.

    Parameters
    ----------
    axes
        Two axes, or one where there is no map.
    step
        Only every so many pixels is drawn.
    truth
        (h, w), true on the defect: outlined as well, dashed, where it is given.
    """
    first: Axes = axes[0]
    first.imshow(_shaded(picture, answer)[::step, ::step], extent=_extent(answer))
    first.figure.suptitle(_title(answer), color=_colour(answer), fontsize=FONT_SIZE + 2)
    if truth is not None and truth.any():
        _contour(first, truth[::step, ::step], answer, GREEN, "dashed")
        first.set_xlabel("dashed: the true defect", color=INK, fontsize=FONT_SIZE)
    if answer.map is not None:
        shown = answer.map[::step, ::step]
        reaches = np.nan_to_num(shown, nan=-np.inf) >= answer.threshold
        if reaches.any():  # nowhere without a threshold
            _contour(first, reaches, answer, SKY_BLUE, "solid")
        _draw_map(axes[1], shown, answer)
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])


def _figure(answer: Answer, aspect: float) -> Figure:
    panels = 1 if answer.map is None else 2
    height = min(max(0.92 * _WIDTH / panels * aspect, 1.5), 12.0) + 0.4
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_map(ax: Axes, shown: NDArray[np.float32], answer: Answer) -> None:
    unit = answer.threshold if answer.threshold > 0 else 1.0
    end = BRIGHTEST if answer.threshold > 0 else None
    image = ax.imshow(shown / unit, cmap=MAP_COLOURS, vmin=0, vmax=end, extent=_extent(answer))
    ax.set_facecolor(PALE)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, extend="neither" if end is None else "max")
    bar.set_label("score" if end is None else "share of the threshold", color=INK)
    if end is not None:
        bar.ax.axhline(1.0, color=SKY_BLUE, linewidth=2)


def _contour(ax: Axes, area: NDArray[np.bool_], answer: Answer, colour: str, style: str) -> None:
    if area.all():  # there is no edge to draw, and the map says so
        return
    ax.contour(
        area,
        levels=[0.5],
        colors=[colour],
        linestyles=[style],
        linewidths=2,
        extent=_extent(answer),
        origin="upper",
    )


def _shaded(picture: NDArray[np.uint8], answer: Answer) -> NDArray[np.uint8]:
    """Return the picture, paler where the model did not look."""
    left, top, right, bottom = (round(edge) for edge in answer.seen)
    shaded = (picture // 3 + 160).astype(np.uint8)
    shaded[top:bottom, left:right] = picture[top:bottom, left:right]
    return shaded


def _extent(answer: Answer) -> tuple[float, float, float, float]:
    width, height = answer.size
    return (0, width, height, 0)


def _title(answer: Answer) -> str:
    name = f": {shorten('/'.join(answer.path.parts[-2:]), _LONGEST_NAME)}" if answer.path else ""
    if answer.label == "no threshold":
        return f"score {answer.score:.4g}, no threshold{name}".replace("$", r"\$")
    return f"{answer.label}, {answer.share_of_threshold:.2f} of the threshold{name}".replace("$", r"\$")


def _colour(answer: Answer) -> str:
    return {"good": GOOD, "anomalous": ANOMALOUS}.get(answer.label, INK)
