"""Images, anomaly maps and masks as pixels: uint8 (h, w, 3)."""

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize, to_rgb
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from anomaly_lib.views.plots.style import MAP_COLOURS, SKY_BLUE

BRIGHTEST = 2.0
"""Of a map in units of the threshold, the end of the colours, for every picture of every model."""

_MOST_SAMPLES = 4_000_000
_NO_MASK_GREY = 128


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


def as_mask(mask: ArrayLike | None) -> NDArray[np.bool_] | None:
    """Convert a mask (h, w), nonzero on the defect, to booleans; none stays none."""
    return None if mask is None else np.asarray(mask) > 0


def mask_picture(mask: NDArray[np.bool_] | None, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """White defect on black (h, w, 3), or all grey of the size (h, w) where there is no mask."""
    if mask is None:
        return np.full((*size, 3), _NO_MASK_GREY, np.uint8)
    return np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
