"""Pairs of patches to train on, cut out of images in memory, a whole batch at a time.

Sampling, jitter and noise are the official code's (``SVDD_Dataset`` and ``PositionDataset``).
"""

from typing import NamedTuple

import torch

from anomaly_lib.detectors.patch_svdd.network import POSITIONS

# Direction of the second patch from the first, (rows, columns), for each position that is to be told apart.
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))

# Standard deviation of the noise on position pairs: a shift for each channel, and each value's own.
NOISE = 0.02


class Places(NamedTuple):
    """Upper left corners of patches, in pixels: (b,) rows and (b,) columns."""

    row: torch.Tensor
    column: torch.Tensor


class Pairs:
    """Draws pairs of patches from normal images.

    Parameters
    ----------
    images
        (n, 3, h, w) uint8, on the device on which the patches are wanted.
    mean
        (3, h, w) the mean image in [0, 1], which is subtracted.
    generator
        Draws everything that is random; on the same device.
    """

    def __init__(self, images: torch.Tensor, mean: torch.Tensor, generator: torch.Generator) -> None:
        self._images, self._mean, self._generator = images, mean, generator

    def svdd(self, side: int, image: torch.Tensor) -> torch.Tensor:
        """Return two almost equal patches (2, b, 3, side, side) of each image number in `image` (b,).

        The second is the first moved by up to side / 32 pixels, by at least one in one direction.
        """
        reach = side // 32
        first = self._anywhere(side, len(image))
        moves = (2 * reach + 1) ** 2
        move = self._integers(moves - 1, len(image))
        move = move + (move >= moves // 2)  # all moves but none at all, which is the one in the middle
        down, right = move // (2 * reach + 1) - reach, move % (2 * reach + 1) - reach
        return self._cut(side, image, first, self._within(side, first.row + down, first.column + right))

    def position(self, side: int, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noisy neighbouring patches (2, b, 3, side, side) and the second's position (b,), 0 to 7.

        The second is 3/4 to 1 side away, in both directions for a diagonal neighbour. At the border of the
        image it is moved inwards, as in the official code.
        """
        first = self._anywhere(side, len(image))
        position = self._integers(POSITIONS, len(image))
        direction = torch.tensor(DIRECTIONS, device=image.device)[position]
        down, right = (
            direction[:, axis] * (3 * side // 4 + self._integers(side // 4, len(image))) for axis in (0, 1)
        )
        second = self._within(side, first.row + down, first.column + right)
        patches = self._cut(side, image, first, second)
        shift = torch.empty_like(patches[..., :1, :1]).normal_(std=NOISE, generator=self._generator)
        noise = torch.empty_like(patches).normal_(std=NOISE, generator=self._generator)
        return patches + shift + noise, position

    def _cut(self, side: int, image: torch.Tensor, *places: Places) -> torch.Tensor:
        """Return the patches (len(places), b, 3, side, side) of the images at the places."""
        images = self._images.unfold(2, side, 1).unfold(
            3, side, 1
        )  # (n, 3, rows, columns, side, side), a view
        mean = self._mean.unfold(1, side, 1).unfold(2, side, 1)
        cut = [
            images[image, :, place.row, place.column].float().div_(255)
            - mean[:, place.row, place.column].transpose(0, 1)
            for place in places
        ]
        return torch.stack(cut)

    def _anywhere(self, side: int, number: int) -> Places:
        height, width = self._images.shape[2:]
        return Places(
            self._integers(height - side + 1, number),
            self._integers(width - side + 1, number),
        )

    def _within(self, side: int, row: torch.Tensor, column: torch.Tensor) -> Places:
        height, width = self._images.shape[2:]
        return Places(row.clamp(0, height - side), column.clamp(0, width - side))

    def _integers(self, below: int, number: int) -> torch.Tensor:
        return torch.randint(below, (number,), generator=self._generator, device=self._images.device)
