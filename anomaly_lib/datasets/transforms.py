"""From a picture to a network's input: resize, crop, and the same geometry for its mask."""

import math
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Literal, NamedTuple

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from anomaly_lib.errors import DataError, ParameterError

Interpolation = Literal["bilinear", "bicubic"]

# A resized image as large as this takes a gigabyte.
_LONGEST_SIDE = 16_384

# From this many pixels on, only what the crop shows is resized.
_WHOLE_IMAGE = 2**24


# A whole picture of more than so many times its shorter side takes more memory than it is worth.
_LONGEST_SHAPE = 16


class Geometry(NamedTuple):
    """What a user asks of a transform, ``--resize`` and ``--imagesize``; ``None``: as it is.

    `whole`: the whole picture in its own shape instead of a crop or a square.
    """

    resize: int | None = None
    size: int | None = None
    whole: bool = False


AS_IT_IS = Geometry()


@dataclass(frozen=True)
class Transform:
    """The geometry of a model's input, saved with the model.

    Parameters
    ----------
    resize
        Target size in pixels, up to 16,384: of the shorter side, or of both sides when `square`.
    crop
        Side of the square cut from the centre, in pixels; at most `resize`. ``None`` takes the whole picture.
    square
        Resize both sides to `resize` and give up the aspect ratio.
    interpolation
        For images; masks are always resized bilinearly.
    multiple
        Of a whole picture in its own shape, both sides are brought to the nearest multiple of this: of what
        the network halves its maps to, or of a transformer's patches.

    Raises
    ------
    ParameterError
        When a size is no whole number, or out of range, or the crop is larger than the resized image.

    Examples
    --------
    >>> part = Image.new("RGB", (640, 480))
    >>> Transform(resize=256, crop=224).image(part).shape
    torch.Size([3, 224, 224])
    >>> Transform(resize=256).image(part).shape
    torch.Size([3, 256, 352])
    """

    resize: int
    crop: int | None = None
    square: bool = False
    interpolation: Interpolation = "bilinear"
    multiple: int = 32

    def __post_init__(self) -> None:
        _check_side("resize", self.resize)
        if self.crop is not None:
            _check_side("image size", self.crop)
        _check_side("multiple", self.multiple)
        if self.crop is not None and self.crop > self.resize:
            raise ParameterError(
                f"image size {self.crop} is larger than resize {self.resize}: "
                "raise `resize` or lower `imagesize`, or the crop would reach outside of the image"
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ParameterError(f"interpolation is {self.interpolation!r}: use bilinear or bicubic")

    def __str__(self) -> str:
        if self.whole:
            return f"resize {self.resize}, whole pictures"
        return f"resize {self.resize} and image size {self.size}"

    @property
    def whole(self) -> bool:
        """Whether a picture is seen whole and in its own shape, so that pictures may differ in theirs."""
        return self.crop is None and not self.square

    @property
    def size(self) -> int:
        """The shorter side of what the model sees, in pixels: of all but whole pictures, both sides."""
        return self._rounded(self.resize) if self.whole else self.crop or self.resize

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """Return (height, width) of what the model sees of a picture of this size, in its input's pixels.

        Raises
        ------
        DataError
            When a whole picture is too long for its width.

        Examples
        --------
        >>> Transform(resize=256).shape(width=640, height=256)
        (256, 640)
        """
        if not self.whole:
            return self.size, self.size
        shorter, longer = sorted((width, height))
        if longer > _LONGEST_SHAPE * shorter:
            raise DataError(
                f"a picture of {width} x {height} pixels is more than {_LONGEST_SHAPE} times as long as "
                "wide: cut it into pieces, or give `imagesize`"
            )
        long_side = self._rounded(self.resize * longer / shorter)
        return (long_side, self.size) if height > width else (self.size, long_side)

    def image(self, picture: Image.Image, shape: tuple[int, int] | None = None) -> torch.Tensor:
        """Return `picture` (RGB) as a uint8 tensor (3, h, w); h and w are those of `shape`.

        A whole picture is brought to another `shape` (h, w) where one is given.
        """
        pixels: torch.Tensor = tv.pil_to_tensor(
            self._geometry(picture, InterpolationMode(self.interpolation), shape)
        )
        return pixels

    def mask(self, picture: Image.Image, shape: tuple[int, int] | None = None) -> torch.Tensor:
        """Return `picture` (8-bit grey) as a bool tensor (h, w), true where it is above one half.

        A whole picture's is brought to another `shape` (h, w) where one is given.

        Examples
        --------
        >>> scratch = Image.new("L", (4, 4), 0)
        >>> scratch.paste(255, (0, 0, 4, 2))  # the upper half
        >>> Transform(resize=2, square=True).mask(scratch)
        tensor([[ True,  True],
                [False, False]])
        """
        grey: torch.Tensor = tv.pil_to_tensor(
            self._geometry(picture, InterpolationMode.BILINEAR, shape)
        )  # (1, h, w)
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
        if self.whole:
            if size:
                raise ParameterError(
                    f"`imagesize` {size}: whole pictures in their own shape have no such size: give `resize`"
                )
            return replace(self, resize=resize or self.resize)
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

    def asked(self, geometry: Geometry, multiple: int = 32) -> "Transform":
        """Return this transform in the geometry that is asked for; `multiple` is that of whole pictures."""
        kind = replace(self, crop=None, square=False, multiple=multiple) if geometry.whole else self
        return kind.override(geometry.resize, geometry.size)

    def _rounded(self, side: float) -> int:
        return self.multiple * max(1, round(side / self.multiple))

    def _geometry(
        self,
        picture: Image.Image,
        interpolation: InterpolationMode,
        whole_shape: tuple[int, int] | None = None,
    ) -> Image.Image:
        if self.whole:
            shape = whole_shape or self.shape(*picture.size)
            whole: Image.Image = tv.resize(picture, list(shape), interpolation)
            return whole
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
