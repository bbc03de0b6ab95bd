"""Pictures of parts: what the camera saw, where the detector looked, and what the ground truth says."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from anomaly_lib.views.plots.page import GAP, LINE, MARGIN, Page
from anomaly_lib.views.plots.pixels import as_mask, as_rgb, map_range, mask_picture
from anomaly_lib.views.plots.style import (
    ANOMALOUS,
    FONT_SIZE,
    INK,
    MAP_COLOURS,
    SMALL_FONT_SIZE,
    WIDTH,
    fit,
)

_SCALE_HEIGHT = 0.8  # inches of the colour bar with its numbers


def plot_examples(
    images: Sequence[ArrayLike] | NDArray[np.generic],
    maps: Sequence[ArrayLike] | NDArray[np.floating],
    masks: Sequence[ArrayLike | None] | NDArray[np.generic],
    titles: Sequence[str],
    threshold: float,
    *,
    value_range: tuple[float, float] | None = None,
    unit: str = "score",
) -> Figure:
    """Draw one row an example: the image, its anomaly map, the map over the threshold, the ground truth.

    Parameters
    ----------
    images
        Images (h, w, 3) or (h, w), uint8 or floats in [0, 1].
    maps
        Anomaly maps, of the size of the images or another.
    masks
        Masks, true on the defect; `None` where there is no ground truth.
    titles
        A line for every row, such as the file's name, its score and a metric; cut in the middle if too long.
    threshold
        A pixel at or above it counts as anomalous.
    value_range
        Range of the colours in all maps; by default that of `map_range(maps, threshold)`. Give the range of
        the whole category where pictures of it are to be compared.
    unit
        Of maps and threshold; stands below the colours.

    Raises
    ------
    ValueError
        If there is no example or the four do not have the same length.
    """
    n = len(images)
    if not n or not n == len(maps) == len(masks) == len(titles):
        raise ValueError(
            f"One image, map, mask and title an example: got {n}, {len(maps)}, {len(masks)}, {len(titles)}."
        )
    pictures = [as_rgb(image) for image in images]
    low, high = value_range or map_range(np.concatenate([np.ravel(one) for one in maps]), threshold)
    colours = ScalarMappable(Normalize(low, high), MAP_COLOURS)
    panel = (WIDTH - 2 * MARGIN - 3 * GAP) / 4
    heights = [panel * picture.shape[0] / picture.shape[1] for picture in pictures]
    page = Page(WIDTH, LINE + sum(heights) + n * (LINE + GAP) + _SCALE_HEIGHT)
    lefts = [MARGIN + i * (panel + GAP) for i in range(4)]
    for left, name in zip(
        lefts, ("image", "anomaly map", f"map ≥ {threshold:.3g}", "ground truth"), strict=True
    ):
        page.text(left, name, weight="bold")
    page.down(LINE)
    for picture, one_map, mask, title, height in zip(pictures, maps, masks, titles, heights, strict=True):
        page.text(MARGIN, fit(title, 72 * (WIDTH - 2 * MARGIN), FONT_SIZE))
        page.down(LINE)
        axes = [page.panel(left, panel, height) for left in lefts]
        _draw_example(axes, picture, np.asarray(one_map), as_mask(mask), threshold, colours)
        page.down(height + GAP)
    _draw_scale(page, colours, threshold, unit, lefts[1], panel)
    page.text(lefts[2], f"orange: map ≥ {threshold:.3g}", size=SMALL_FONT_SIZE)
    page.text(lefts[2], "dark line: ground truth", size=SMALL_FONT_SIZE, below=0.18)
    return page.figure


def _draw_example(
    axes: Sequence[Axes],
    picture: NDArray[np.uint8],
    anomaly_map: NDArray[np.floating],
    mask: NDArray[np.bool_] | None,
    threshold: float,
    colours: ScalarMappable,
) -> None:
    """Fill the four panels of a row; all share the coordinates of the image, whatever size the map has."""
    extent = (0.0, float(picture.shape[1]), float(picture.shape[0]), 0.0)
    found = anomaly_map >= np.float64(threshold)
    # Lightened and without colours, every image leaves the overlay the strongest thing to see.
    faint = (128 + picture.mean(axis=2) / 2).astype(np.uint8)
    overlay = np.zeros((*found.shape, 4))
    overlay[found] = (*to_rgb(ANOMALOUS), 0.7)
    axes[0].imshow(picture, extent=extent)
    axes[1].imshow(anomaly_map, extent=extent, cmap=colours.cmap, clim=colours.get_clim())
    axes[2].imshow(faint, extent=extent, cmap="gray", vmin=0, vmax=255)
    axes[2].imshow(overlay, extent=extent, interpolation="nearest")
    if mask is not None and mask.any() and not mask.all():
        axes[2].contour(mask, levels=[0.5], extent=extent, origin="upper", colors=INK, linewidths=1.2)
    axes[3].imshow(mask_picture(mask, picture.shape[:2]), extent=extent, interpolation="nearest")
    remark = "no mask" if mask is None else "" if mask.any() else "no defect"
    axes[3].text(
        0.5, 0.5, remark, transform=axes[3].transAxes, color="white", fontsize=FONT_SIZE, ha="center"
    )
    for ax in axes:
        ax.set(xlim=extent[:2], ylim=extent[2:])


def _draw_scale(
    page: Page, colours: ScalarMappable, threshold: float, unit: str, left: float, width: float
) -> None:
    """Draw the one colour bar of all maps under their column, with what the third column shows on it."""
    ax = page.panel(left, width, 0.12, below=0.24)
    bar = page.figure.colorbar(colours, cax=ax, orientation="horizontal")
    bar.locator = MaxNLocator(4)
    bar.ax.tick_params(labelsize=SMALL_FONT_SIZE)
    bar.set_label(unit, size=SMALL_FONT_SIZE)
    low, high = colours.get_clim()
    if low <= threshold <= high:
        ax.annotate(
            "orange",
            (threshold, 1.0),
            xycoords=ax.get_xaxis_transform(),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL_FONT_SIZE,
            color=INK,
            arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0},
        )
