"""Pictures of parts: what the camera saw, where the detector looked, and what the ground truth says."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage

from anomaly_lib.views.plots.style import (
    ANOMALOUS,
    FONT_SIZE,
    INK,
    MAP_COLOURS,
    SKY_BLUE,
    SMALL_FONT_SIZE,
    detached_figure,
    fit,
    shorten,
)

_MOST_SAMPLES = 4_000_000
_WIDTH = 9.5  # inches of a figure
_MARGIN, _GAP = 0.05, 0.08  # inches around all panels and between two
_LINE = 0.25  # inches of a line of text
_POINTS_A_LETTER = 0.58 * FONT_SIZE  # width of an average letter
_SCALE_HEIGHT = 0.62  # inches of the colour bar with its numbers
_LARGEST_PANEL = 2.6  # inches
_PIXEL_GAP = 4
_NO_MASK_GREY = 128


def map_range(maps: ArrayLike, threshold: float | None = None) -> tuple[float, float]:
    """Choose one colour range for all anomaly maps of a category.

    From the 1st to the 99.9th percentile of all pixels: single extreme pixels do not darken the rest. With a
    threshold the range reaches at least as far above it as below, so that what counts as normal stays in the
    dark half of the colours even where no defect stretches the range, and a good part does not glow.

    Parameters
    ----------
    maps
        Maps (n, h, w) of good and anomalous images. Of more than four million pixels a fixed random sample is
        used.
    threshold
        Threshold of a pixel, in the unit of the maps.

    Raises
    ------
    ValueError
        If there is no pixel, or a pixel is not finite.
    """
    values = np.asarray(maps)
    if values.size > _MOST_SAMPLES:
        places = np.random.default_rng(0).integers(0, values.size, _MOST_SAMPLES)
        values = values.ravel()[places]
    if not values.size or not np.isfinite(values).all():
        raise ValueError("A colour range needs maps with finite pixels.")
    low, high = (float(value) for value in np.percentile(values, [1.0, 99.9]))
    if threshold is not None and np.isfinite(threshold):
        low = min(low, threshold)
        high = max(high, threshold + (threshold - low))
    return low, high if high > low else low + 1.0


def plot_examples(
    images: Sequence[ArrayLike] | NDArray[np.generic],
    maps: Sequence[ArrayLike] | NDArray[np.floating],
    masks: Sequence[ArrayLike | None] | NDArray[np.generic],
    titles: Sequence[str],
    threshold: float,
    *,
    value_range: tuple[float, float] | None = None,
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
    panel = (_WIDTH - 2 * _MARGIN - 3 * _GAP) / 4
    heights = [panel * picture.shape[0] / picture.shape[1] for picture in pictures]
    page = _Page(_WIDTH, _LINE + sum(heights) + n * (_LINE + _GAP) + _SCALE_HEIGHT)
    lefts = [_MARGIN + i * (panel + _GAP) for i in range(4)]
    for left, name in zip(
        lefts, ("image", "anomaly map", f"map ≥ {threshold:.5g}", "ground truth"), strict=True
    ):
        page.text(left, name, weight="bold")
    page.down(_LINE)
    for picture, one_map, mask, title, height in zip(pictures, maps, masks, titles, heights, strict=True):
        page.text(_MARGIN, fit(title, 72 * (_WIDTH - 2 * _MARGIN), FONT_SIZE))
        page.down(_LINE)
        axes = [page.panel(left, panel, height) for left in lefts]
        _draw_example(axes, picture, np.asarray(one_map), _as_mask(mask), threshold, colours)
        page.down(height + _GAP)
    _draw_scale(page, colours, threshold, lefts[1], panel)
    page.text(lefts[2], "orange: map ≥ threshold", size=SMALL_FONT_SIZE)
    page.text(lefts[2], "dark line: ground truth", size=SMALL_FONT_SIZE, below=0.18)
    return page.figure


class _Page:
    """A figure that is filled from the top in inches, because no layout engine packs images this tightly."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = detached_figure(width, height)
        self.width, self.height, self.top = width, height, 0.0

    def down(self, inches: float) -> None:
        """Go on further below."""
        self.top += inches

    def text(
        self, left: float, text: str, *, below: float = 0.0, size: float = FONT_SIZE, weight: str = "normal"
    ) -> None:
        """Write from the left in the middle of the next line."""
        y = 1.0 - (self.top + below + _LINE / 2) / self.height
        self.figure.text(
            left / self.width,
            y,
            text,
            fontsize=size,
            weight=weight,
            color=INK,
            va="center_baseline",
            parse_math=False,
        )

    def panel(self, left: float, width: float, height: float, *, below: float = 0.0) -> Axes:
        """Make axes without ticks at the current height."""
        bottom = self.height - self.top - below - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        ax = self.figure.add_axes(box)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        return ax


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
    axes[3].imshow(_mask_picture(mask, picture.shape[:2]), extent=extent, interpolation="nearest")
    remark = "no mask" if mask is None else "" if mask.any() else "no defect"
    axes[3].text(
        0.5, 0.5, remark, transform=axes[3].transAxes, color="white", fontsize=FONT_SIZE, ha="center"
    )
    for ax in axes:
        ax.set(xlim=extent[:2], ylim=extent[2:])


def _draw_scale(page: _Page, colours: ScalarMappable, threshold: float, left: float, width: float) -> None:
    """Draw the one colour bar of all maps under their column, with the threshold on it."""
    ax = page.panel(left, width, 0.12, below=0.24)
    bar = page.figure.colorbar(colours, cax=ax, orientation="horizontal")
    bar.locator = MaxNLocator(4)
    bar.ax.tick_params(labelsize=SMALL_FONT_SIZE)
    low, high = colours.get_clim()
    if low <= threshold <= high:
        ax.annotate(
            "threshold",
            (threshold, 1.0),
            xycoords=ax.get_xaxis_transform(),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL_FONT_SIZE,
            color=INK,
            arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0},
        )


def plot_gallery(
    images: Sequence[ArrayLike] | NDArray[np.generic], titles: Sequence[str], *, columns: int | None = None
) -> Figure:
    """Draw images row by row, each under its caption.

    Parameters
    ----------
    images
        Images (h, w, 3) or (h, w), uint8 or floats in [0, 1], of any sizes.
    titles
        Captions, of up to two lines in the width of an image; cut in the middle if longer.
    columns
        Images in a row; by default all of them, and five at most.

    Raises
    ------
    ValueError
        If there is no image or not one caption an image.
    """
    if not len(images) or len(images) != len(titles):
        raise ValueError(f"One caption an image; got {len(titles)} captions for {len(images)} images.")
    columns = columns or min(len(images), 5)
    panel = min(_LARGEST_PANEL, (_WIDTH - 2 * _MARGIN + _GAP) / columns - _GAP)
    cells = [(as_rgb(image), _caption(title, panel)) for image, title in zip(images, titles, strict=True)]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    lines = [max(len(caption) for _, caption in row) for row in rows]
    # A tall image gets smaller rather than its row taller.
    heights = [
        panel * min(1.25, max(picture.shape[0] / picture.shape[1] for picture, _ in row)) for row in rows
    ]
    page = _Page(
        2 * _MARGIN + columns * (panel + _GAP) - _GAP, sum(heights) + sum(lines) * _LINE + len(rows) * _GAP
    )
    for row, count, height in zip(rows, lines, heights, strict=True):
        for i, (picture, caption) in enumerate(row):
            left = _MARGIN + i * (panel + _GAP)
            for line, text in enumerate(caption):
                page.text(left, text, below=line * _LINE * 0.8)
            ax = page.panel(left, panel, height, below=count * _LINE)
            ax.imshow(picture)
            ax.set_anchor("NW")
        page.down(height + count * _LINE + _GAP)
    return page.figure


def _caption(title: str, width: float) -> list[str]:
    """Break a caption into at most two lines of a width in inches."""
    letters = int(72 * width / _POINTS_A_LETTER)
    lines = textwrap.wrap(shorten(title, 2 * letters - letters // 3), letters)[:2]
    return [fit(line, 72 * width, FONT_SIZE) for line in lines]


def save_segmentation_image(
    path: Path | str,
    image: ArrayLike,
    mask: ArrayLike | None,
    anomaly_map: ArrayLike,
    value_range: tuple[float, float],
    threshold: float | None = None,
) -> None:
    """Write one PNG: the image, the ground truth and the anomaly map side by side, each of the image's size.

    Parameters
    ----------
    image
        Image (h, w, 3) or (h, w), uint8 or floats in [0, 1].
    mask
        Mask, true on the defect; without one the panel is grey.
    value_range
        Range of the colours, from `map_range` over the whole category.
    threshold
        Outlines where the map is at or above it.
    """
    picture = as_rgb(image)
    height, width = picture.shape[:2]
    gap = np.full((height, _PIXEL_GAP, 3), 255, np.uint8)
    panels = (
        picture,
        gap,
        _resized(_mask_picture(_as_mask(mask), (height, width)), (height, width)),
        gap,
        map_picture(_resized(np.asarray(anomaly_map, np.float32), (height, width)), value_range, threshold),
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # The lowest compression takes less than half the time for a quarter more bytes.
    Image.fromarray(np.concatenate(panels, axis=1)).save(path, format="PNG", compress_level=1)


def map_picture(
    anomaly_map: NDArray[np.floating], value_range: tuple[float, float], threshold: float | None
) -> NDArray[np.uint8]:
    """Colours (h, w, 3) of a map, with an outline where it reaches the threshold."""
    picture = mpl.colormaps[MAP_COLOURS](Normalize(*value_range)(anomaly_map), bytes=True)[..., :3]
    if threshold is not None:
        found = anomaly_map >= np.float64(threshold)
        thickness = max(2, round(min(found.shape) / 200))
        outline = found & ~ndimage.binary_erosion(found, iterations=thickness)
        picture[outline] = np.multiply(to_rgb(SKY_BLUE), 255).astype(np.uint8)
    return np.ascontiguousarray(picture)


def as_rgb(image: ArrayLike) -> NDArray[np.uint8]:
    """Convert an image (h, w, 3) or (h, w), uint8 or floats in [0, 1], to uint8 (h, w, 3)."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"An image to draw has the shape (h, w, 3) or (h, w), not {pixels.shape}.")
    if pixels.dtype == np.uint8:
        return pixels
    rounded: NDArray[np.uint8] = (np.clip(pixels, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return rounded


def _as_mask(mask: ArrayLike | None) -> NDArray[np.bool_] | None:
    return None if mask is None else np.asarray(mask) > 0


def _mask_picture(mask: NDArray[np.bool_] | None, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """White defect on black (h, w, 3), or all grey of the size (h, w) where there is no mask."""
    if mask is None:
        return np.full((*size, 3), _NO_MASK_GREY, np.uint8)
    return np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


def _resized(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Bring a map (h, w) or a mask's picture (h, w, 3) to a size; only the map is interpolated."""
    if pixels.shape[:2] == size:
        return pixels
    how = Image.Resampling.BILINEAR if pixels.ndim == 2 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], how))
