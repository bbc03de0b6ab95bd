"""One test image in four panels, and patches of training images, for the explorer.

Drawn by Pillow, which takes a tenth of the time of a figure: these follow a slider and a mouse.
"""

from dataclasses import dataclass
from functools import cache

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from anomaly_lib.views.plots.pixels import BRIGHTEST
from anomaly_lib.views.plots.style import ANOMALOUS, INK, MAP_COLOURS, SKY_BLUE

SIDE = 300  # pixels that a panel has at most, in both directions
_GAP, _LINE, _SCALE = 8, 20, 8
_FONT = 13.0
_TILE = 132


Box = tuple[float, float, float, float]
"""Left, top, right and bottom in the pixels of a picture."""


@dataclass(frozen=True)
class Shown:
    """A test image as it is shown.

    Attributes
    ----------
    picture
        At most `SIDE` pixels wide and high.
    size
        Width and height of the file, in pixels.
    seen
        What the model sees of it, in the file's pixels.
    shares
        (h, w) map at the model's input in units of its threshold; ``None`` of a method without maps.
    mask
        (h, w) true on the defect; ``None`` where nobody drew one.
    """

    picture: Image.Image
    size: tuple[int, int]
    seen: Box
    shares: NDArray[np.floating] | None
    mask: NDArray[np.bool_] | None

    @property
    def window(self) -> tuple[int, int, int, int]:
        """What the model sees, in the pixels of the panel."""
        left, top, right, bottom = scaled(self.seen, self.picture.width / self.size[0])
        left, top = round(left), round(top)
        return left, top, max(left + 1, round(right)), max(top + 1, round(bottom))


def scaled(box: Box, factor: float) -> Box:
    """Return a box of a picture that is so many times as large."""
    left, top, right, bottom = box
    return left * factor, top * factor, right * factor, bottom * factor


def draw_panels(shown: Shown, threshold: float, marked: Box | None) -> Image.Image:
    """Return the panels; `threshold` is in the unit of the map, `marked` a box in the file's pixels."""
    width, height = shown.picture.size
    page = Image.new("RGB", _page_size(shown), "white")
    panels = [("picture", _with_box(shown, shown.picture, marked))]
    if shown.shares is not None:
        panels.append(("anomaly map", _with_box(shown, _map(shown), marked)))
        panels.append((f"map at or above {threshold:.2f} of the threshold", _found(shown, threshold)))
    panels.append(("truth", _truth(shown)))
    for number, (title, panel) in enumerate(panels):
        left, top = _corner(number, shown.picture.size)
        _write(page, (left, top - _LINE + 3), title, width)
        page.paste(panel, (left, top))
    if shown.shares is not None:
        _draw_scale(page, (width + _GAP, _LINE + height + _GAP), width)
    _write(page, (0, _LINE + height + _GAP), "click: which training patches are nearest?", width)
    return page


def picture_place(x: float, y: float, shown: Shown) -> tuple[float, float] | None:
    """Return the place (x, y) in the file's pixels of a place on the page of panels, from 0 to 1; or none."""
    width, height = shown.picture.size
    page_width, page_height = _page_size(shown)
    for number in range(4):
        left, top = _corner(number, shown.picture.size)
        across, down = x * page_width - left, y * page_height - top
        if 0 <= across < width and 0 <= down < height:
            return across * shown.size[0] / width, down * shown.size[1] / height
    return None


def draw_tile(picture: Image.Image, box: Box) -> Image.Image:
    """Return a patch of a picture, enlarged, above the picture with the patch's box."""
    small = picture.copy()
    small.thumbnail((_TILE, _TILE))
    _outline(small, scaled(box, small.width / picture.width))
    left, top, right, bottom = (round(edge) for edge in box)
    # Twice as wide as the patch: alone it is too small to know what it shows.
    margin = max(1, (right - left) // 2)
    wide = (left - margin, top - margin, right + margin, bottom + margin)
    patch = picture.crop(wide).resize((_TILE, _TILE), Image.Resampling.BILINEAR)
    factor = _TILE / (wide[2] - wide[0])
    _outline(patch, scaled((margin, margin, margin + right - left, margin + bottom - top), factor))
    tile = Image.new("RGB", (_TILE, _TILE + _GAP + small.height), "white")
    tile.paste(patch, (0, 0))
    tile.paste(small, ((_TILE - small.width) // 2, _TILE + _GAP))
    return tile


def _page_size(shown: Shown) -> tuple[int, int]:
    width, height = shown.picture.size
    last, below = (
        (0, _GAP + _LINE) if shown.shares is None else (2, 0)
    )  # the line that is below the first row
    return 2 * width + _GAP, _corner(last, (width, height))[1] + height + below


def _corner(number: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return where a panel begins: below its title; below the first row there is the scale."""
    row, column = divmod(number, 2)
    return column * (size[0] + _GAP), _LINE + row * (size[1] + _GAP + _SCALE + 2 * _LINE)


def _map(shown: Shown) -> Image.Image:
    assert shown.shares is not None
    colours = mpl.colormaps[MAP_COLOURS](_in_window(shown) / BRIGHTEST, bytes=True)[..., :3]
    panel = Image.new("RGB", shown.picture.size, "#D9D9D9")
    panel.paste(Image.fromarray(np.ascontiguousarray(colours)), shown.window[:2])
    return panel


def _found(shown: Shown, threshold: float) -> Image.Image:
    """Return the picture without its colours, and over it what reaches the threshold."""
    faint = shown.picture.convert("L").point([128 + level // 2 for level in range(256)]).convert("RGB")
    found = Image.fromarray((_in_window(shown) >= threshold).astype(np.uint8) * 180)
    colour = Image.new("RGB", found.size, tuple(round(255 * part) for part in to_rgb(ANOMALOUS)))
    faint.paste(colour, shown.window[:2], found)
    return faint


def _truth(shown: Shown) -> Image.Image:
    panel = Image.new("RGB", shown.picture.size, "#767676")
    if shown.mask is None:
        _write(panel, (6, 4), "no mask", panel.width, "white")
        return panel
    left, top, right, bottom = shown.window
    mask = Image.fromarray(shown.mask).resize((right - left, bottom - top))
    panel.paste(mask.convert("RGB"), (left, top))
    if not shown.mask.any():
        _write(panel, (left + 6, top + 4), "no defect", panel.width, "white")
    return panel


def _in_window(shown: Shown) -> NDArray[np.floating]:
    """Return the map in the pixels of the panel, where the model looked."""
    left, top, right, bottom = shown.window
    pixels = Image.fromarray(np.asarray(shown.shares, np.float32))
    return np.asarray(pixels.resize((right - left, bottom - top), Image.Resampling.BILINEAR))


def _with_box(shown: Shown, panel: Image.Image, marked: Box | None) -> Image.Image:
    if marked is None:
        return panel
    panel = panel.copy()
    _outline(panel, scaled(marked, panel.width / shown.size[0]))
    return panel


def _outline(picture: Image.Image, box: Box) -> None:
    """Draw a box that is seen on any picture: light within dark."""
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = (round(edge) for edge in box)
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=INK, width=3)
    draw.rectangle((left, top, right, bottom), outline=SKY_BLUE, width=1)


def _draw_scale(page: Image.Image, corner: tuple[int, int], width: int) -> None:
    """Draw the colours of the map with what they mean."""
    levels = mpl.colormaps[MAP_COLOURS](np.linspace(0, 1, width), bytes=True)[None, :, :3]
    strip = Image.fromarray(np.ascontiguousarray(levels)).resize((width, _SCALE))
    page.paste(strip, corner)
    for share, name, anchor in ((0.0, "0", "la"), (0.5, "threshold", "ma"), (1.0, "twice", "ra")):
        place = (corner[0] + share * (width - 1), corner[1] + _SCALE + 2)
        ImageDraw.Draw(page).text(place, name, fill=INK, font=_font(), anchor=anchor)


def _write(page: Image.Image, corner: tuple[int, int], text: str, width: int, colour: str = INK) -> None:
    ImageDraw.Draw(page).text(corner, _fitting(text, width), fill=colour, font=_font())


def _fitting(text: str, width: int) -> str:
    while len(text) > 1 and _font().getlength(text) > width:
        text = text[:-2] + "…"
    return text


@cache
def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(_FONT)
    assert isinstance(font, ImageFont.FreeTypeFont)  # as Pillow's wheels have it
    return font
