"""Image, ground truth and anomaly map side by side in one file, pixel by pixel."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from anomaly_lib.files import new_file
from anomaly_lib.views.plots.pixels import as_mask, as_rgb, map_picture, mask_picture

_PIXEL_GAP = 4


def save_segmentation_image(
    path: Path | str,
    image: ArrayLike,
    mask: ArrayLike | None,
    anomaly_map: ArrayLike,
    value_range: tuple[float, float],
    threshold: float | None = None,
) -> None:
    """Write one PNG: the image, the ground truth and the anomaly map side by side, each of the image's size.

    It is there whole or not at all.

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
        _resized(mask_picture(as_mask(mask), (height, width)), (height, width)),
        gap,
        map_picture(_resized(np.asarray(anomaly_map, np.float32), (height, width)), value_range, threshold),
    )
    with new_file(Path(path)) as unfinished:
        # The lowest compression takes less than half the time for a quarter more bytes.
        Image.fromarray(np.concatenate(panels, axis=1)).save(unfinished, format="PNG", compress_level=1)


def _resized(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Bring a map (h, w) or a mask's picture (h, w, 3) to a size; only the map is interpolated."""
    if pixels.shape[:2] == size:
        return pixels
    how = Image.Resampling.BILINEAR if pixels.ndim == 2 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], how))
