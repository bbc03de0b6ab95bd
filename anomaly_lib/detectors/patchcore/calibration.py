"""PatchCore's threshold, from its training images alone: each scored against the patches of all others.

Not in the paper.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch

from anomaly_lib.detectors.patchcore.memory_bank import MemoryBank, PatchMaps
from anomaly_lib.detectors.patchcore.reweighting import image_weights
from anomaly_lib.kernels.leave_one_out import leave_one_out
from anomaly_lib.kernels.neighbors import NeighborIndex
from anomaly_lib.progress import Progress

# At most this many of the training images, evenly spread, are scored.
CALIBRATION_IMAGES = 500

# Dimensions of the projection that are enough to order patches by their distance roughly.
ROUGH = 32


class CalibrationImages:
    """Every so many of `total` training images, kept to be scored when the memory bank is full."""

    def __init__(self, total: int) -> None:
        self._every = math.ceil(total / CALIBRATION_IMAGES)
        self._kept: list[tuple[PatchMaps, torch.Tensor]] = []

    def add(self, patches: PatchMaps, images: torch.Tensor) -> None:
        """Take note of the patches of the next images, which have these consecutive numbers (k,)."""
        chosen = slice(-int(images[0]) % self._every, None, self._every)
        if len(images[chosen]):
            kept = patches if self._every == 1 else patches.images(chosen)
            self._kept.append((kept, images[chosen]))

    def __len__(self) -> int:
        """Return the number of images kept."""
        return sum(len(numbers) for _, numbers in self._kept)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the features (n, h, w, d) and the numbers (n,) of one batch of images after the other."""
        for patches, numbers in self._kept:
            features = patches.features()
            yield features, numbers.to(features.device)


def leave_one_out_scores(
    images: CalibrationImages,
    bank: MemoryBank,
    index: NeighborIndex,
    num_nn: int,
    reweight: int,
    progress: Progress,
) -> np.ndarray:
    """Return the scores (n,) of images against the patches of all others; infinite where there are too few.

    `index` is that of the bank's rows, in groups by image.
    """
    rough = bank.projection[:, :ROUGH]
    rough_index = NeighborIndex(bank.projected[:, :ROUGH], bank.image_of)
    scores = [torch.empty(0)]
    for features, numbers in _tracked(images, progress):
        flat = features.flatten(0, 2)
        image_of = numbers.repeat_interleave(features.shape[1] * features.shape[2])
        worst = leave_one_out(flat, flat @ rough, image_of, index, rough_index, num_nn)
        score = worst.distance
        if reweight:
            weights = image_weights(flat[worst.row], worst.neighbour, index, reweight, numbers)
            score = torch.where(score.isinf(), score, score * weights)
        scores.append(score.cpu())
    return torch.cat(scores).numpy()


def _tracked(images: CalibrationImages, progress: Progress) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    done = 0
    progress("threshold", done, len(images))
    for features, numbers in images:
        yield features, numbers
        done += len(numbers)
        progress("threshold", done, len(images))
