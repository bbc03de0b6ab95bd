"""PatchCore's threshold, from its training images alone: each scored as if the bank had not seen it.

A greedy coreset without an image has other rows in place of that image's; see
`anomaly_lib.kernels.replacements`. Not in the paper.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
import torch

from anomaly_lib.detectors.patchcore.memory_bank import MemoryBank, PatchMaps
from anomaly_lib.detectors.patchcore.reweighting import image_weights
from anomaly_lib.kernels.leave_one_out import leave_one_out
from anomaly_lib.kernels.neighbors import NeighborIndex
from anomaly_lib.kernels.replacements import replacement_rows
from anomaly_lib.progress import Progress

# At most this many of the training images, evenly spread, are scored.
CALIBRATION_IMAGES = 500

_Batch = tuple[torch.Tensor, torch.Tensor]

# Patches that are searched for together: 130 MB of 1024 dimensions.
_PATCHES = 2**15

# Dimensions of the projection that are enough to order patches by their distance roughly.
ROUGH = 64


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

    def rows(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the patches (r, d) with these numbers, counted through all images kept."""
        rows, first = torch.empty(0), 0
        for features, _ in self:
            flat = features.flatten(0, 2)
            if first == 0:
                rows = flat.new_empty(len(numbers), flat.shape[1])
            here = (numbers >= first) & (numbers < first + len(flat))
            rows[here] = flat[numbers[here] - first]
            first += len(flat)
        return rows

    @property
    def numbers(self) -> np.ndarray:
        """The numbers (n,) of the images kept."""
        return torch.cat([numbers for _, numbers in self._kept]).cpu().numpy()

    def __len__(self) -> int:
        """Return the number of images kept."""
        return sum(len(numbers) for _, numbers in self._kept)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the features (n, h, w, d) and the numbers (n,) of one batch of images after the other."""
        for patches, numbers in self._kept:
            features = patches.features()
            yield features, numbers.to(features.device)


class Replacements:
    """The rows that a bank would have in place of each image's, had it been filled without that image."""

    def __init__(self, rows: torch.Tensor, instead_of: torch.Tensor) -> None:
        self._rows, self._instead_of = rows, instead_of

    @classmethod
    def none(cls, bank: MemoryBank) -> Self:
        """Return none, for a sampler that covers nothing: there, rows can just be left out."""
        return cls(bank.rows[:0], bank.image_of[:0])

    @classmethod
    def of_greedy_coreset(cls, images: CalibrationImages, bank: MemoryBank, before: int = 0) -> Self:
        """Return those of a greedy coreset, from the patches of the images.

        The first `before` rows were there before these images.
        """
        projected, image_of = [], []
        for features, numbers in images:
            projected.append(features.flatten(0, 2) @ bank.projection)
            image_of.append(image_of_patches(features, numbers))
        patches = torch.cat(projected)
        further = NeighborIndex(bank.projected[:before], queries=len(patches)) if before else None
        chosen, instead_of = replacement_rows(
            patches, torch.cat(image_of), bank.projected[before:], bank.image_of[before:], further
        )
        return cls(images.rows(chosen), instead_of)

    def distances(self, features: torch.Tensor, numbers: torch.Tensor, k: int) -> torch.Tensor:
        """Return the `k` smallest squared distances (n * h * w, k) of features (n, h, w, d) to these rows.

        They are infinite where an image has fewer replacements.
        """
        nearest = []
        for image, patches in zip(numbers, features.flatten(1, 2), strict=True):
            rows = self._rows[self._instead_of == image]
            found = torch.full((len(patches), k), torch.inf, device=features.device)
            if len(rows):
                distances = NeighborIndex(rows, queries=len(patches)).search(patches, min(k, len(rows)))[0]
                found[:, : distances.shape[1]] = distances
            nearest.append(found)
        return torch.cat(nearest)


def leave_one_out_scores(
    images: CalibrationImages,
    bank: MemoryBank,
    index: NeighborIndex,
    replacements: Replacements,
    num_nn: int,
    reweight: int,
    progress: Progress,
) -> np.ndarray:
    """Return the scores (n,) of images against a bank without them; infinite where it has too few rows.

    `index` is that of the bank's rows, in groups by image.
    """
    rough = bank.projection[:, :ROUGH]
    rough_index = NeighborIndex(bank.projected[:, :ROUGH], bank.image_of)
    scores = [torch.empty(0)]
    for features, numbers in _tracked(images, progress):
        flat = features.flatten(0, 2)
        image_of = image_of_patches(features, numbers)
        further = replacements.distances(features, numbers, num_nn)
        worst = leave_one_out(flat, flat @ rough, image_of, index, rough_index, num_nn, further)
        score = worst.distance
        if reweight:
            weights = image_weights(flat[worst.row], worst.neighbour, index, reweight, numbers)
            score = torch.where(score.isinf(), score, score * weights)
        scores.append(score.cpu())
    return torch.cat(scores).numpy()


def image_of_patches(features: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return the number (n * h * w,) of the image that each patch of features (n, h, w, d) is of."""
    return numbers.repeat_interleave(features.shape[1] * features.shape[2])


def _tracked(images: CalibrationImages, progress: Progress) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    done = 0
    progress("threshold", done, len(images))
    for features, numbers in _joined(images):
        yield features, numbers
        done += len(numbers)
        progress("threshold", done, len(images))


def _joined(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of features and numbers in larger ones: a search reads the whole bank for each."""
    waiting: list[_Batch] = []
    for features, numbers in batches:
        patches = sum(one.shape[:3].numel() for one, _ in waiting) + features.shape[:3].numel()
        if waiting and (patches > _PATCHES or features.shape[1:] != waiting[0][0].shape[1:]):
            yield _one_batch(waiting)
            waiting = []
        waiting.append((features, numbers))
    if waiting:
        yield _one_batch(waiting)


def _one_batch(batches: list[_Batch]) -> _Batch:
    return torch.cat([features for features, _ in batches]), torch.cat([numbers for _, numbers in batches])
