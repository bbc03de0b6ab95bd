"""Pictures of single patches and of the maps that a score is made of."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from anomaly_lib.views.plots.gallery import plot_gallery
from anomaly_lib.views.plots.pixels import as_rgb, map_picture, map_range
from anomaly_lib.views.plots.style import SKY_BLUE


def plot_parts(
    images: Sequence[ArrayLike],
    maps: Mapping[str, ArrayLike],
    titles: Sequence[str],
    masks: Sequence[ArrayLike] | None = None,
) -> Figure:
    """Draw a row an image: the image with the outline of its defect, then one map of each kind.

    Kinds of maps have units of their own, so each kind has its own range of colours, the same in all rows.

    Parameters
    ----------
    images
        Images (h, w, 3), uint8 or floats in [0, 1].
    maps
        By name, maps (n, h, w) of these images.
    titles
        A caption for each image.
    masks
        (h, w), true where the defect is; none for no outlines.
    """
    ranges = {name: map_range(values) for name, values in maps.items()}
    pictures: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        pictures.append(outlined(image, masks[i]) if masks is not None else as_rgb(image))
        pictures += [map_picture(np.asarray(values)[i], ranges[name], None) for name, values in maps.items()]
        captions += [title, *maps]
    return plot_gallery(pictures, captions, columns=1 + len(maps))


def outlined(image: ArrayLike, mask: ArrayLike) -> NDArray[np.uint8]:
    """Return a copy (h, w, 3) of an image with a line around what is true in `mask` (h, w)."""
    picture, area = as_rgb(image).copy(), np.asarray(mask) > 0
    thickness = max(1, round(min(area.shape) / 150))
    line = ndimage.binary_dilation(area, iterations=thickness) & ~area if area.any() else area
    picture[line] = np.multiply(to_rgb(SKY_BLUE), 255).astype(np.uint8)
    return picture


def marked(image: ArrayLike, row: int, column: int, side: int, colour: str = SKY_BLUE) -> NDArray[np.uint8]:
    """Return a copy (h, w, 3) of an image with a frame around the patch whose upper left corner is given."""
    picture = as_rgb(image).copy()
    width = max(1, round(min(picture.shape[:2]) / 120))
    frame = np.zeros(picture.shape[:2], bool)
    frame[row : row + side, column : column + side] = True
    frame[row + width : row + side - width, column + width : column + side - width] = False
    picture[frame] = np.multiply(to_rgb(colour), 255).astype(np.uint8)
    return picture
