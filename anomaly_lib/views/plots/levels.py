"""What each level of a network finds in one image."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from anomaly_lib.views.plots.style import FONT_SIZE, MAP_COLOURS, SKY_BLUE, WIDTH, detached_figure

_COLUMNS = 5
_TITLE = 0.26  # inches


def plot_level_maps(image: ArrayLike, maps: Mapping[str, ArrayLike], mask: ArrayLike | None = None) -> Figure:
    """Draw an image and beside it one anomaly map after the other, each in colours of its own.

    The colours of a map go from its median, dark, to its largest value: levels have different units, and what
    is compared is where they look.

    Parameters
    ----------
    image
        (h, w, 3), uint8 or floats in [0, 1].
    maps
        Maps (h, w) by their titles.
    mask
        (h, w), true on the defect, drawn as an outline.

    Raises
    ------
    ValueError
        If there is no map.
    """
    if not maps:
        raise ValueError("There is no map to draw.")
    picture = np.asarray(image)
    rows = math.ceil((len(maps) + 1) / _COLUMNS)
    panel = WIDTH / _COLUMNS
    figure = detached_figure(WIDTH, rows * (panel * picture.shape[0] / picture.shape[1] + _TITLE))
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    figure.subplots_adjust(
        0, 0, 1, 1 - _TITLE / figure.get_figheight(), wspace=0.03, hspace=0.03 + _TITLE / panel
    )
    for ax in panels:
        ax.set_axis_off()
    panels[0].imshow(picture)
    panels[0].set_title("image", fontsize=FONT_SIZE, weight="bold")
    for ax, (title, one_map) in zip(panels[1:], maps.items(), strict=False):
        values = np.asarray(one_map)
        ax.imshow(values, cmap=MAP_COLOURS, vmin=float(np.median(values)), vmax=float(values.max()))
        ax.set_title(title, fontsize=FONT_SIZE)
    for ax in panels[: len(maps) + 1]:
        if mask is not None and np.asarray(mask).any():
            ax.contour(np.asarray(mask), levels=[0.5], colors=SKY_BLUE, linewidths=1)
    return figure
