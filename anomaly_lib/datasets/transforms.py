"""From a picture to a network's input: resize, crop, and the same geometry for its mask."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from anomaly_lib.errors import ParameterError

Interpolation = Literal["bilinear", "bicubic"]


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
        Target size in pixels: of the shorter side, or of both sides when `square`.
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
        When the crop is larger than the resized image.
    """

    resize: int
    crop: int | None = None
    square: bool = False
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.resize < 1 or (self.crop is not None and self.crop < 1):
            raise ParameterError(f"resize {self.resize} and image size {self.crop} must be at least 1 pixel")
        if self.crop is None and not self.square:
            raise ParameterError(
                "images of different shapes need a crop or square=True to fit into one batch"
            )
        if self.crop is not None and self.crop > self.resize:
            raise ParameterError(
                f"image size {self.crop} is larger than resize {self.resize}: "
                "raise --resize or lower --imagesize, or the crop would reach outside of the image"
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
        """Return `picture` (8-bit grey) as a bool tensor (size, size), true where it is above one half."""
        grey: torch.Tensor = tv.pil_to_tensor(
            self._geometry(picture, InterpolationMode.BILINEAR)
        )  # (1, size, size)
        return grey[0] >= 128

    def override(self, resize: int | None, size: int | None) -> "Transform":
        """Return this transform with what the user asked for instead: ``--resize`` and ``--imagesize``."""
        if self.crop is None:
            if resize and size and resize != size:
                raise ParameterError(
                    f"--resize {resize} and --imagesize {size}: this method sees the whole image in one "
                    "size: give one"
                )
            return Transform(size or resize or self.resize, None, self.square, self.interpolation)
        crop = size or min(self.crop, resize or self.crop)
        # Alone, a new size keeps the share of the image that the default crop shows.
        resize = resize or round(crop * self.resize / self.crop)
        return Transform(resize, crop, self.square, self.interpolation)

    def _geometry(self, picture: Image.Image, interpolation: InterpolationMode) -> Image.Image:
        size = [self.resize, self.resize] if self.square else [self.resize]
        resized: Image.Image = tv.resize(picture, size, interpolation)
        return resized if self.crop is None else tv.center_crop(resized, [self.crop, self.crop])
