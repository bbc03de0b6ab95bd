"""What all pictures share: the colours, the names of the metrics, new axes and shortened text.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with any common colour
vision tell apart. Good and anomalous also differ in their marker, for the printer without colours.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY_BLUE = "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#222222", "#767676", "#D9D9D9"

GOOD, ANOMALOUS = BLUE, VERMILLION
LINE_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY_BLUE)
MARKERS = ("o", "D", "s", "^", "v", "P")
MAP_COLOURS = "inferno"  # perceptually uniform, dark where nothing is found

WIDTH = 9.5  # inches of a figure in a notebook
FONT_SIZE = 10.0
SMALL_FONT_SIZE = 9.0

_METRIC_NAMES = {
    "instance_auroc": "image AUROC",
    "full_pixel_auroc": "pixel AUROC",
    "anomaly_pixel_auroc": "pixel AUROC in anomalous images",
    "aupro": "AUPRO",
}


def metric_name(column: str) -> str:
    """Name of a column of `results.csv` as a person would say it."""
    return _METRIC_NAMES.get(column, column.replace("_", " "))


def category_name(row: object) -> str:
    """Name of a row of `results.csv` without the data set: `mvtec_cloth` is `cloth`."""
    return str(row).removeprefix("mvtec_")


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or the axes of a new pyplot figure (inches), which a notebook shows by itself."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def detached_figure(width: float, height: float) -> Figure:
    """Make a figure (inches) that pyplot does not hold on to.

    It passes through pyplot because a notebook draws figures only once pyplot has chosen its backend.
    """
    figure = plt.figure(figsize=(width, height))
    plt.close(figure)
    return figure


def tidy(ax: Axes) -> None:
    """Take away the frame that carries no information and set the sizes of the text."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL_FONT_SIZE)


def shorten(text: str, length: int) -> str:
    """Cut the middle out of a line that is longer than `length`: both ends of a file name tell it apart."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def fit(text: str, width: float, size: float) -> str:
    """Cut the middle out of a line until it is no wider than `width` points in letters of `size` points."""
    while len(text) > 1:
        plain = text.replace("$", r"\$")
        wide = float(TextPath((0, 0), plain, size=size).get_extents().width)
        if wide <= width:
            break
        text = shorten(text, max(1, min(len(text) - 1, int(len(text) * width / wide))))
    return text


def height_in_points(ax: Axes) -> float:
    """Height of the axes as they are now; a layout that is still to run changes it a little."""
    inches = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    return float(72 * inches.height)
