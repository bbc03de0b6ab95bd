"""From a picture to a network's input: resize, crop, and the same geometry for its mask."""

import math
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Literal, NamedTuple

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from anomaly_lib.errors import ParameterError

Interpolation = Literal["bilinear", "bicubic"]

# A resized image as large as this takes a gigabyte.
_LONGEST_SIDE = 16_384

# From this many pixels on, only what the crop shows is resized.
_WHOLE_IMAGE = 2**24


class Geometry(NamedTuple):
    """What a user asks of a transform, ``--resize`` and ``--imagesize``; ``None``: as it is."""

    resize: int | None = None
    size: int | None = None


AS_IT_IS = Geometry()


@dataclass(frozen=True)
class Transform:
    """The geometry of a model's input, saved with the model.

    Parameters
    ----------
    resize
        Target size in pixels, up to 16,384: of the shorter side, or of both sides when `square`.
    crop
        Side of the square cut from the centre, in pixels; at most `resize`. ``None`` (only with `square`)
        takes the whole resized image.
    square
        Resize both sides to `resize` and give up the aspect ratio.
    interpolation
        For images; masks are always resized bilinearly.

    Raises
    ------
    ParameterError
        When a size is no whole number, or out of range, or the crop is larger than the resized image.

    Examples
    --------
    >>> part = Image.new("RGB", (640, 480))
    >>> Transform(resize=256, crop=224).image(part).shape
    torch.Size([3, 224, 224])
    """

    resize: int
    crop: int | None = None
    square: bool = False
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        _check_side("resize", self.resize)
        if self.crop is not None:
            _check_side("image size", self.crop)
        if self.crop is None and not self.square:
            raise ParameterError(
                "images of different shapes need a crop or square=True to fit into one batch"
            )
        if self.crop is not None and self.crop > self.resize:
            raise ParameterError(
                f"image size {self.crop} is larger than resize {self.resize}: "
                "raise `resize` or lower `imagesize`, or the crop would reach outside of the image"
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ParameterError(f"interpolation is {self.interpolation!r}: use bilinear or bicubic")

    @property
    def size(self) -> int:
        """Side of the square that the model sees, in pixels."""
        return self.crop or self.resize

    def image(self, picture: Image.Image) -> torch.Tensor:
        """Return `picture` (RGB) as a uint8 tensor of shape (3, size, size)."""
        pixels: torch.Tensor = tv.pil_to_tensor(
            self._geometry(picture, InterpolationMode(self.interpolation))
        )
        return pixels

    def mask(self, picture: Image.Image) -> torch.Tensor:
        """Return `picture` (8-bit grey) as a bool tensor (size, size), true where it is above one half.

        Examples
        --------
        >>> scratch = Image.new("L", (4, 4), 0)
        >>> scratch.paste(255, (0, 0, 4, 2))  # the upper half
        >>> Transform(resize=2, square=True).mask(scratch)
        tensor([[ True,  True],
                [False, False]])
        """
        grey: torch.Tensor = tv.pil_to_tensor(
            self._geometry(picture, InterpolationMode.BILINEAR)
        )  # (1, size, size)
        return grey[0] >= 128

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return what the model sees of a picture of this size, in its pixels: left, top, right, bottom.

        Examples
        --------
        >>> Transform(resize=256, crop=224).seen(512, 512)
        (32.0, 32.0, 480.0, 480.0)
        """
        if self.crop is None:
            return 0.0, 0.0, float(width), float(height)
        new_width, new_height = self._resized(width, height)
        left, right = _edges(width, new_width, self.crop)
        top, bottom = _edges(height, new_height, self.crop)
        return left, top, right, bottom

    def override(self, resize: int | None, size: int | None) -> "Transform":
        """Return this transform with what the user asked for instead: ``--resize`` and ``--imagesize``.

        Examples
        --------
        >>> larger = Transform(resize=256, crop=224).override(None, 448)
        >>> larger.resize, larger.crop  # the same share of the image is seen
        (512, 448)
        """
        for name, side in (("`resize`", resize), ("`imagesize`", size)):
            if side is not None:
                _check_side(name, side)
        if self.crop is None:
            if resize and size and resize != size:
                raise ParameterError(
                    f"`resize` {resize} and `imagesize` {size}: this method sees the whole image in one "
                    "size: give one"
                )
            return replace(self, resize=size or resize or self.resize)
        crop = size or min(self.crop, resize or self.crop)
        # Alone, a new size keeps the share of the image that the default crop shows.
        return replace(self, resize=resize or round(crop * self.resize / self.crop), crop=crop)

    def _geometry(self, picture: Image.Image, interpolation: InterpolationMode) -> Image.Image:
        size = [self.resize, self.resize] if self.square else [self.resize]
        width, height = self._resized(*picture.size)
        if self.crop is not None and width * height > _WHOLE_IMAGE:
            return _resized_crop(picture, (width, height), self.crop, Image.Resampling[interpolation.name])
        resized: Image.Image = tv.resize(picture, size, interpolation)
        return resized if self.crop is None else tv.center_crop(resized, [self.crop, self.crop])

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of an image of this size when it is resized, as torchvision reckons it."""
        if self.square:
            return self.resize, self.resize
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize


def _check_side(name: str, side: int) -> None:
    if not isinstance(side, Integral) or isinstance(side, bool) or not 1 <= side <= _LONGEST_SIDE:
        raise ParameterError(f"{name} {side!r} must be a whole number of pixels from 1 to {_LONGEST_SIDE}")


def _resized_crop(
    picture: Image.Image, size: tuple[int, int], crop: int, resample: Image.Resampling
) -> Image.Image:
    """Return the centre of the picture resized to `size` without the rest: equal but for rounding on the way.

    A line of 1 x 20,000 pixels would become 256 x 5,120,000, of which a crop shows 224 x 224.
    """
    left, right, low_x, high_x = _seen(picture.width, size[0], crop)
    top, bottom, low_y, high_y = _seen(picture.height, size[1], crop)
    window = picture.crop((left, top, right, bottom))
    return window.resize((crop, crop), resample, (low_x, low_y, high_x, high_y))


def _seen(old: int, new: int, crop: int) -> tuple[int, int, float, float]:
    """Return what a crop from the centre of `new` pixels shows of `old` ones: a window, and where in it."""
    low, high = _edges(old, new, crop)
    reach = 2 * max(old / new, 1) + 1  # of the bicubic kernel
    start, stop = max(math.floor(low - reach), 0), min(math.ceil(high + reach), old)
    return start, stop, low - start, high - start


def _edges(old: int, new: int, crop: int) -> tuple[float, float]:
    """Return where a crop from the centre of `new` pixels begins and ends on a side of `old` ones."""
    scale, first = old / new, round((new - crop) / 2)
    return first * scale, min((first + crop) * scale, float(old))
