"""Pictures that show the same, whatever they are called and however they are packed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from anomaly_lib.datasets.formats import open_picture
from anomaly_lib.datasets.pixels import to_rgb
from anomaly_lib.errors import DataError

# Side of the grey pictures that are compared, and the mean difference, in levels of 255, of two that show the
# same: a picture saved again as JPEG, or at half its size, differs by less.
_SIDE, _SAME = 64, 1.0


@dataclass(frozen=True)
class Seen:
    """What is compared of a picture."""

    path: Path
    part: str
    size: tuple[int, int]
    mode: str
    digest: str
    small: np.ndarray  # (side * side,) float32 grey levels


def look(file: tuple[Path, str]) -> Seen | DataError:
    """Return what is compared of a picture and the part that it is of, or why it cannot be read."""
    path, part = file

    def use(picture: Image.Image) -> Seen:
        mode = picture.mode
        rgb = to_rgb(picture, path)
        grey = rgb.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        small = np.asarray(grey, np.float32).ravel()
        return Seen(path, part, rgb.size, mode, _digest(rgb), small)

    try:
        return open_picture(path, use)
    except DataError as error:
        return error


def _digest(rgb: Image.Image) -> str:
    """Return what is the same for the same pixels, whatever the file is called or how it is packed."""
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()


def pairs(seen: Sequence[Seen]) -> tuple[list[tuple[Seen, Seen]], list[tuple[Seen, Seen]]]:
    """Return the pairs of the same pixels, and those that differ by hardly anything."""
    same: list[tuple[Seen, Seen]] = []
    alike: list[tuple[Seen, Seen]] = []
    small = np.stack([one.small for one in seen]) if seen else np.zeros((0, 1), np.float32)
    for later, one in enumerate(seen):
        differences = np.abs(small[:later] - one.small).mean(axis=1)
        for place in np.flatnonzero(differences < _SAME):
            other = seen[int(place)]
            (same if other.digest == one.digest else alike).append((one, other))
    return same, alike
