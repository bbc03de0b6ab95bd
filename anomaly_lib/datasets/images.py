"""Image files as a re-iterable source of batches, decoded on all cores while the network computes."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import DataError

T = TypeVar("T")

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def read_picture(path: Path) -> Image.Image:
    """Return the image file as an upright RGB picture.

    EXIF rotation is applied, grey (8 or 16 bit) is repeated over the channels, and what is transparent is
    black.

    Raises
    ------
    DataError
        When the file is missing, truncated or not an image.
    """
    return _open(path, _to_rgb)


def read_grey(path: Path) -> Image.Image:
    """Return a mask file as an upright 8-bit grey picture; errors as in `read_picture`."""
    return _open(path, lambda picture: _to_eight_bits(ImageOps.exif_transpose(picture)).convert("L"))


def upright_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of the image in `path` after EXIF rotation, reading only the file's header."""

    def size(picture: Image.Image) -> tuple[int, int]:
        width, height = picture.size
        turned = picture.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 swap the sides
        return (height, width) if turned else (width, height)

    return _open(path, size)


class ImageFiles:
    """A source of images for detectors: iterate over it as often as you like.

    Parameters
    ----------
    paths
        Image files, in the order in which they are wanted.
    transform
        Geometry of the model's input.
    batch_size
        Images in a batch; only the last one may be smaller.

    Yields
    ------
    torch.Tensor
        Batches (n, 3, size, size), float32 in [0, 1].
    """

    def __init__(self, paths: Sequence[Path], transform: Transform, batch_size: int = 8) -> None:
        self.paths = tuple(paths)
        self.transform = transform
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of images, not of batches."""
        return len(self.paths)

    def __iter__(self) -> Iterator[torch.Tensor]:
        images = _decode_ahead(self._load, self.paths, ahead=2 * self.batch_size)
        batch: list[torch.Tensor] = []
        for image in images:
            batch.append(image)
            if len(batch) == self.batch_size:
                yield torch.stack(batch).float().div_(255)
                batch = []
        if batch:
            yield torch.stack(batch).float().div_(255)

    def _load(self, path: Path) -> torch.Tensor:
        return self.transform.image(read_picture(path))


def _decode_ahead(
    load: Callable[[Path], torch.Tensor], paths: Sequence[Path], ahead: int
) -> Iterator[torch.Tensor]:
    """Yield ``load(path)`` in order, keeping `ahead` files in work on all cores (PIL releases the GIL)."""
    waiting: deque[Future[torch.Tensor]] = deque()
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
    try:
        for path in paths:
            waiting.append(pool.submit(load, path))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _open(path: Path, use: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(path) as picture:
            return use(picture)
    except FileNotFoundError:
        raise DataError(f"no such image: {path}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # PIL reports a broken PNG chunk as SyntaxError and a short header as ValueError.
        raise DataError(f"cannot read the image {path} ({error}): replace or remove the file") from None


def _to_rgb(picture: Image.Image) -> Image.Image:
    upright = _to_eight_bits(ImageOps.exif_transpose(picture))
    if upright.has_transparency_data:
        layers = upright.convert("RGBA")
        black = Image.new("RGBA", layers.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, layers).convert("RGB")
    return upright.convert("RGB")


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; PIL's own conversion would clip everything above 255 to white."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray(
        (np.asarray(picture).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8)
    )
