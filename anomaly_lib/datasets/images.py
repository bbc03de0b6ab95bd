"""Image files as a re-iterable source of batches, decoded on all cores while the network computes."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from anomaly_lib.datasets.formats import open_picture
from anomaly_lib.datasets.pixels import size_upright, to_grey, to_rgb
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import DataError, ParameterError

P = TypeVar("P")
T = TypeVar("T")


def read_picture(path: Path) -> Image.Image:
    """Return the image file as an upright RGB picture.

    EXIF rotation is applied, grey is repeated over the channels, what is transparent is black, and of several
    pages the first is read. What becomes of more than 8 bits stands in `anomaly_lib.datasets.pixels`.

    Raises
    ------
    DataError
        When the file is missing, damaged or not an image, or cannot be brought to 8 bits without guessing.
    """
    return open_picture(Path(path), lambda picture: to_rgb(picture, Path(path)))


def read_grey(path: Path) -> Image.Image:
    """Return a mask file as an upright 8-bit grey picture; errors as in `read_picture`."""
    return open_picture(Path(path), to_grey)


def upright_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of the image in `path` after EXIF rotation; errors as in `read_picture`."""
    return open_picture(Path(path), size_upright)


class ImageFiles:
    """A source of images for detectors: iterate over it as often as you like.

    Parameters
    ----------
    paths
        Image files, in the order in which they are wanted.
    transform
        Geometry of the model's input.
    batch_size
        Images in a batch, 1 or more; the last may be smaller, and one before an image of another shape.

    Yields
    ------
    torch.Tensor
        Batches (n, 3, h, w), float32 in [0, 1]; the images of a batch have one shape.

    Raises
    ------
    ParameterError
        When `paths` is no list of files, or the batch is smaller than one image.
    """

    def __init__(self, paths: Iterable[Path | str], transform: Transform, batch_size: int = 8) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ParameterError(f"batch_size {batch_size!r} must be a whole number from 1 on")
        self.paths = _files(paths)
        self.transform = transform
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of images, not of batches."""
        return len(self.paths)

    def __iter__(self) -> Iterator[torch.Tensor]:
        images = decode_ahead(self._load, self.paths, ahead=2 * self.batch_size)
        batch: list[torch.Tensor] = []
        for image in images:
            if batch and (len(batch) == self.batch_size or image.shape != batch[0].shape):
                yield torch.stack(batch).float().div_(255)
                batch = []
            batch.append(image)
        if batch:
            yield torch.stack(batch).float().div_(255)

    def _load(self, path: Path) -> torch.Tensor:
        picture = read_picture(path)
        try:
            return self.transform.image(picture)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def decode_ahead(load: Callable[[P], T], pictures: Iterable[P], ahead: int) -> Iterator[T]:
    """Yield ``load(picture)`` in order, with `ahead` of them in work on all cores (PIL releases the GIL)."""
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
    try:
        for picture in pictures:
            waiting.append(pool.submit(load, picture))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _files(paths: Iterable[Path | str]) -> tuple[Path, ...]:
    """Return the paths, and refuse what a loop would take apart: the letters of one file's name."""
    if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable):
        raise ParameterError(
            f"images are given as a list of files, not as {str(paths)!r}: write [Path(...)] for one file, "
            "sorted(Path(...).iterdir()) for those in a folder"
        )
    files = list(paths)
    for file in files:
        if not isinstance(file, str | os.PathLike):
            raise ParameterError(f"images are given as a list of files, in which {file!r} is no path")
    return tuple(Path(file) for file in files)
