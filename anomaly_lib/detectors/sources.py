"""Where a detector's images come from: batches that can be iterated over more than once, each checked."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch

from anomaly_lib.errors import DataError

# Pixels are in [0, 1]; what augmentation or sharpening adds is let through, 8-bit values are not.
_LOWEST, _HIGHEST = -1, 2


class Images(Protocol):
    """A source of images that can be iterated over more than once.

    Iterating yields batches (n, 3, h, w), float in [0, 1]; ``len()`` is the number of images.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[torch.Tensor]: ...


class TensorImages:
    """Images (n, 3, h, w) in memory as a source of batches."""

    def __init__(self, images: torch.Tensor, batch_size: int = 8) -> None:
        self._images = images
        self._batch_size = batch_size

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self._images.split(self._batch_size) if len(self._images) else ())


class _Told:
    """A source of images that tells of every batch."""

    def __init__(self, images: Images, tell: Callable[[torch.Tensor], None]) -> None:
        self._images, self._tell = images, tell

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for batch in checked_batches(self._images):
            self._tell(batch)
            yield batch


def told(images: Images | torch.Tensor, tell: Callable[[torch.Tensor], None]) -> Images:
    """Return the images as a source that calls `tell` with every batch, checked."""
    return _Told(TensorImages(images) if isinstance(images, torch.Tensor) else images, tell)


def checked_batches(images: Images | torch.Tensor) -> Iterator[torch.Tensor]:
    """Return the images' batches, each checked when it comes."""
    return map(_checked, TensorImages(images) if isinstance(images, torch.Tensor) else images)


def _checked(batch: torch.Tensor) -> torch.Tensor:
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise DataError(f"images come in batches of shape (n, 3, height, width), not {tuple(batch.shape)}")
    if not batch.is_floating_point():
        raise DataError(f"images are floats in [0, 1], not {batch.dtype}: divide 8-bit images by 255")
    if not torch.isfinite(batch).all():
        raise DataError("an image has pixels that are NaN or infinite: images are floats in [0, 1]")
    if batch.numel():
        low, high = (float(extreme) for extreme in batch.aminmax())
        if low < _LOWEST or high > _HIGHEST:
            raise DataError(
                f"images have pixels from {low:.4g} to {high:.4g}: images are floats in [0, 1]; divide 8-bit "
                "images by 255, and leave their normalisation to the detector"
            )
    return batch.float()
