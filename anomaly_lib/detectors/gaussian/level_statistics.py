"""What the Gaussian detector keeps of the images it sees: for each level of the network, its moments."""

import math
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F

from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.gaussian.moments import Moments, restored_moments
from anomaly_lib.errors import DataError

# Positions a side whose features enter the covariance of the maps. Neighbours on a finer grid say the same
# again: on 112 x 112 positions the sums would take as long as the network.
GRID = 28

FOLDS = 5


class LevelStatistics:
    """One level's features of the images seen so far; two sets of images can be merged.

    Parameters
    ----------
    rows
        Keep the pooled features of every image, which held-out images, PCA and the one-class SVM need: some
        kilobytes an image. Everything else takes the same memory for any number of images.
    positions
        Keep the statistics of single positions, for maps.

    Attributes
    ----------
    pooled
        Moments of the features averaged over the image.
    positions
        Moments of the features at the single positions of at most GRID x GRID.
    position_sum
        (h, w, d) float64, the features summed over images; zero-dimensional before the first image.
    """

    def __init__(self, *, rows: bool, positions: bool) -> None:
        self.keeps_rows, self.keeps_positions = rows, positions
        self.pooled, self.positions = Moments(), Moments()
        self.position_sum = torch.zeros((), dtype=torch.float64)
        self._rows: list[torch.Tensor] = []

    @property
    def images(self) -> int:
        """How many images were seen."""
        return self.pooled.count

    @property
    def rows(self) -> torch.Tensor:
        """The pooled features of every image (n, d), float64; empty when they are not kept."""
        return torch.cat(self._rows) if self._rows else torch.empty(0, dtype=torch.float64)

    @classmethod
    def of_rows(cls, rows: torch.Tensor) -> "LevelStatistics":
        """Return the statistics of images with the pooled features `rows` (n, d), without positions."""
        statistics = cls(rows=True, positions=False)
        statistics.pooled.add(rows)
        statistics._rows.append(rows.double())
        return statistics

    def add(self, maps: torch.Tensor, pooled: torch.Tensor, chosen: torch.Tensor) -> None:
        """Take in some images of a batch: those at the indices `chosen` (m,).

        Of the batch, `maps` (n, d, h, w) are the features and `pooled` (n, d) their means over the image.
        """
        self.pooled.add(pooled[chosen])
        if self.keeps_rows:
            self._rows.append(pooled[chosen])
        if self.keeps_positions:
            self.positions.add(on_grid(maps)[chosen].permute(0, 2, 3, 1).flatten(0, 2))  # (m * gh * gw, d)
            if not self.position_sum.ndim:
                self.position_sum = maps.new_zeros(maps.shape[2:] + maps.shape[1:2], dtype=torch.float64)
            if maps.shape[2:] != self.position_sum.shape[:2]:  # of a whole picture in another shape
                maps = F.interpolate(maps, size=self.position_sum.shape[:2], mode="bilinear")
            for image in chosen.tolist():  # one after the other: no copy of the maps
                self.position_sum += maps[image].permute(1, 2, 0)

    def merge(self, other: "LevelStatistics") -> None:
        """Take in what `other` has seen, as if its images had been added here.

        Raises
        ------
        DataError
            When the images of the two were of different sizes.
        """
        other_sum = other.position_sum
        if self.keeps_positions and self.images and other.images:
            here, there = self.position_sum.shape[:2], other_sum.shape[:2]
            if min(here) != min(there):
                raise DataError("statistics of images of different sizes cannot be merged: resize them alike")
            other_sum = _on_positions(other_sum, here)
        self.pooled.merge(other.pooled)
        if self.keeps_positions and other.images:
            self.positions.merge(other.positions)
            self.position_sum = self.position_sum + other_sum
        if self.keeps_rows:
            self._rows += other._rows

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all of it, by name: nothing of no images."""
        if not self.images:
            return {}
        named = {f"pooled.{name}": value for name, value in self.pooled.tensors().items()}
        if self.keeps_positions:
            named |= {f"positions.{name}": value for name, value in self.positions.tensors().items()}
            named["position_sum"] = self.position_sum
        return named | ({"rows": self.rows} if self.keeps_rows else {})

    def restore(self, saved: SavedTensors, prefix: str, columns: int) -> None:
        """Take over what `tensors` returned, of vectors (`columns`,), from names with this `prefix`."""
        if f"{prefix}pooled.count" not in saved.names():
            return
        self.pooled = restored_moments(saved, f"{prefix}pooled.", columns)
        if self.keeps_positions:
            self.positions = restored_moments(saved, f"{prefix}positions.", columns)
            self.position_sum = saved.take(f"{prefix}position_sum", None, None, columns, dtype=torch.float64)
        if self.keeps_rows:
            self._rows = [saved.take(f"{prefix}rows", self.images, columns, dtype=torch.float64)]

    def position_means(self) -> torch.Tensor:
        """Return the mean of every position (h, w, d), float64."""
        return self.position_sum / self.images

    def spread_about_position_means(self) -> torch.Tensor:
        """Return the covariance (d, d) of the features about their own position's mean, shared by all.

        Within plus between the positions is the whole. The divisor makes it unbiased, which the means of few
        images need: of n images the deviations are short by (n - 1) / n.
        """
        means = on_grid(self.position_means().permute(2, 0, 1)[None])[0].flatten(1).T  # (gh * gw, d)
        about = means - self.positions.mean
        between = about.T @ about / len(means)
        return (self.positions.covariance - between) * (self.images / max(1, self.images - 1))


def _on_positions(sums: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return the sums (h, w, d) of features at single positions on another grid of positions."""
    if sums.shape[:2] == tuple(shape):
        return sums
    return F.interpolate(sums.permute(2, 0, 1)[None], size=tuple(shape), mode="bilinear")[0].permute(1, 2, 0)


HeldOut = tuple[int, torch.Tensor, list[torch.Tensor]]
"""A fold, the numbers (n,) of its images, and their pooled features (n, d) by level."""


class GaussianStatistics:
    """What `Gaussian.collect` learns of some images: each level's statistics of what will be fitted on.

    And the pooled features of what will be held out. Without a `fold` both are kept of every fold, so that
    any four can be fitted on. `positions` says which levels make maps; for `rows` see `LevelStatistics`.
    """

    def __init__(self, fold: int | None, *, positions: Sequence[bool], rows: bool) -> None:
        self._fold, self._rows, self._positions = fold, rows, tuple(positions)
        # With a fold: all images but the fold's are one portion. Without: each fold is one.
        self._portions = [self._empty(self._positions) for _ in range(FOLDS if fold is None else 1)]
        # By fold, of every batch: the numbers of the images, and their pooled features by level.
        self._held_out: list[list[list[torch.Tensor]]] = [[] for _ in range(FOLDS)]

    def add(self, features: Sequence[torch.Tensor], folds: torch.Tensor) -> None:
        """Take in the feature maps (n, d, h, w) of the levels; `folds` (n,) says which the images are of."""
        pooled = [pool(maps) for maps in features]
        for number, portion in enumerate(self._portions):
            chosen = (folds == number if self._fold is None else folds != self._fold).nonzero().flatten()
            if len(chosen):
                for level, maps, rows in zip(portion, features, pooled, strict=True):
                    level.add(maps, rows, chosen.to(maps.device))

    def hold_out(self, features: Sequence[torch.Tensor], folds: torch.Tensor, numbers: torch.Tensor) -> None:
        """Keep the pooled features of the images to hold out, with their `numbers` (n,); else as `add`."""
        for number in range(FOLDS) if self._fold is None else [self._fold]:
            chosen = folds == number
            if chosen.any():
                pooled = [pool(maps)[chosen.to(maps.device)] for maps in features]
                self._held_out[number].append([numbers[chosen], *pooled])

    def merge(self, other: "GaussianStatistics") -> None:
        """Take in other images, seen by a detector with the same parameters."""
        for levels, other_levels in zip(self._portions, other._portions, strict=True):
            for level, other_level in zip(levels, other_levels, strict=True):
                level.merge(other_level)
        for held, other_held in zip(self._held_out, other._held_out, strict=True):
            held += other_held

    def levels(self, without: int | None = None) -> Sequence[LevelStatistics]:
        """Return the statistics of the levels to fit on; or, to score fold `without`, of the other folds."""
        if len(self._portions) == 1:
            return self._portions[0]
        # What is fitted on to score a fold gives no maps.
        merged = self._empty(self._positions if without is None else [False] * len(self._positions))
        for number, portion in enumerate(self._portions):
            if number != without:
                for level, other in zip(merged, portion, strict=True):
                    level.merge(other)
        return merged

    def held_out(self) -> Iterator[HeldOut]:
        """Yield each fold with images held out."""
        for fold, batches in enumerate(self._held_out):
            if batches:
                numbers, *pooled = (torch.cat(parts) for parts in zip(*batches, strict=True))
                yield fold, numbers, pooled

    def forget_numbers(self) -> None:
        """Forget which images were held out: of merged sets nobody knows."""
        for batches in self._held_out:
            for batch in batches:
                batch[0] = torch.full_like(batch[0], -1)

    def tensors(self, *, held_out: bool = True) -> dict[str, torch.Tensor]:
        """Return all of it, by name; or all but what is `held_out`."""
        named: dict[str, torch.Tensor] = {}
        for place, portion in enumerate(self._portions):
            for number, level in enumerate(portion):
                named |= {f"{place}.{number}.{name}": value for name, value in level.tensors().items()}
        for fold, numbers, pooled in self.held_out() if held_out else ():
            named |= {f"held_out.{fold}.{place}": rows for place, rows in enumerate([numbers, *pooled])}
        return named

    def restore(self, saved: SavedTensors, dimensions: Sequence[int]) -> Self:
        """Take over what `tensors` returned, of levels with so many `dimensions`, where there is nothing yet.

        Raises
        ------
        ModelFileError
            When something is missing or of another shape.
        """
        for place, portion in enumerate(self._portions):
            for number, (level, columns) in enumerate(zip(portion, dimensions, strict=True)):
                level.restore(saved, f"{place}.{number}.", columns)
        for fold in range(FOLDS):
            if f"held_out.{fold}.0" in saved.names():
                numbers = saved.take(f"held_out.{fold}.0", None, dtype=torch.int64)
                rows = [
                    saved.take(f"held_out.{fold}.{place}", len(numbers), columns, dtype=torch.float64)
                    for place, columns in enumerate(dimensions, start=1)
                ]
                self._held_out[fold].append([numbers, *rows])
        return self

    def _empty(self, positions: Sequence[bool]) -> list[LevelStatistics]:
        return [LevelStatistics(rows=self._rows, positions=kept) for kept in positions]


def folds_of(images: int, fold: int | None) -> np.ndarray:
    """Return the fold of each image (n,): the authors' five, or as many as there are images.

    They do not depend on the seed. When `fold` is to be held out of fewer than three images none can be: all
    are of fold -1.
    """
    from sklearn.model_selection import KFold

    folds = np.arange(images) if fold is None else np.full(images, -1)
    if images >= 3:
        splits = KFold(min(FOLDS, images), shuffle=True, random_state=0).split(folds)
        for number, (_, held_out) in enumerate(splits):
            folds[held_out] = number
    return folds


def in_order(held_out: tuple[np.ndarray, np.ndarray], images: int) -> np.ndarray:
    """Return the scores of all `images` (n,), from numbers and scores of those held out, else nan."""
    numbers, scores = held_out
    of_all = np.full(images, np.nan, np.float32)
    of_all[numbers] = scores
    return of_all


def pool(maps: torch.Tensor) -> torch.Tensor:
    """Return the features averaged over the image (n, d), float64, of maps (n, d, h, w).

    Raises
    ------
    DataError
        When one is not finite.
    """
    pooled = maps.mean(dim=(2, 3)).double()
    if not torch.isfinite(pooled).all():
        raise DataError(
            "the network's features of these images are not finite: look for images with NaN or infinite "
            "pixels, or use precision fp32"
        )
    return pooled


def on_grid(maps: torch.Tensor) -> torch.Tensor:
    """Return every so many positions of the maps (n, d, h, w), at most GRID a side."""
    down, across = (math.ceil(side / GRID) for side in maps.shape[2:])
    return maps[:, :, ::down, ::across]
