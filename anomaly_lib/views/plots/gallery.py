"""Images row by row, each under its caption."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from anomaly_lib.views.plots.page import GAP, LINE, MARGIN, Page
from anomaly_lib.views.plots.pixels import as_rgb
from anomaly_lib.views.plots.style import FONT_SIZE, WIDTH, fit, shorten

_POINTS_A_LETTER = 0.58 * FONT_SIZE  # width of an average letter
_LARGEST_PANEL = 2.6  # inches


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
    panel = min(_LARGEST_PANEL, (WIDTH - 2 * MARGIN + GAP) / columns - GAP)
    cells = [(as_rgb(image), _caption(title, panel)) for image, title in zip(images, titles, strict=True)]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    lines = [max(len(caption) for _, caption in row) for row in rows]
    # A tall image gets smaller rather than its row taller.
    heights = [
        panel * min(1.25, max(picture.shape[0] / picture.shape[1] for picture, _ in row)) for row in rows
    ]
    page = Page(
        2 * MARGIN + columns * (panel + GAP) - GAP, sum(heights) + sum(lines) * LINE + len(rows) * GAP
    )
    for row, count, height in zip(rows, lines, heights, strict=True):
        for i, (picture, caption) in enumerate(row):
            left = MARGIN + i * (panel + GAP)
            for line, text in enumerate(caption):
                page.text(left, text, below=line * LINE * 0.8)
            ax = page.panel(left, panel, height, below=count * LINE)
            ax.imshow(picture)
            ax.set_anchor("NW")
        page.down(height + count * LINE + GAP)
    return page.figure


def _caption(title: str, width: float) -> list[str]:
    """Break a caption into at most two lines of a width in inches."""
    letters = int(72 * width / _POINTS_A_LETTER)
    lines = textwrap.wrap(shorten(title, 2 * letters - letters // 3), letters)[:2]
    return [fit(line, 72 * width, FONT_SIZE) for line in lines]
