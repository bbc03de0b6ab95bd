"""PatchCore's memory bank, and filling it from a stream of images in bounded memory."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch

from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.errors import ModelFileError
from anomaly_lib.kernels.coreset import random_projection
from anomaly_lib.kernels.extension import coreset_extension
from anomaly_lib.kernels.neighbors import NeighborIndex

log = logging.getLogger(__name__)

# The coreset is selected on a random projection to this many dimensions, as in the official code.
PROJECTION = 128

# Patches held before they are thinned out: 200 MB of projections, 500 images of 28 x 28 patches.
BUFFER = 400_000

Maps = Sequence[torch.Tensor]
Embed = Callable[[Maps], torch.Tensor]
Select = Callable[[torch.Tensor, int], torch.Tensor]
"""``select(projected, size)`` returns the numbers (size,) of the patches (n, PROJECTION) to keep."""


@dataclass(frozen=True)
class MemoryBank:
    """Normal patch features, and what it takes to add to them.

    Attributes
    ----------
    rows
        (m, d) float32.
    places
        (m, 3) int64, where each row is from: the number of the training image, and row and column in its grid
        of patches; -1 where nobody knows.
    projection
        (d, PROJECTION) the random map that a coreset is selected on.
    projected
        (m, PROJECTION) the rows on it.
    """

    rows: torch.Tensor
    places: torch.Tensor
    projection: torch.Tensor
    projected: torch.Tensor

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    @property
    def image_of(self) -> torch.Tensor:
        """(m,) int64, the number of the training image that each row is from."""
        return self.places[:, 0]

    @classmethod
    def of_rows(cls, rows: torch.Tensor, generator: torch.Generator) -> Self:
        """Return the bank of `rows` (m, d) of unknown images, with a new projection."""
        projection = random_projection(rows.shape[1], PROJECTION, generator).to(rows.device)
        places = torch.full((len(rows), 3), -1, device=rows.device)
        return cls(rows, places, projection, rows @ projection)

    @classmethod
    def restored(cls, tensors: SavedTensors, columns: int, seed: int, device: torch.device) -> Self:
        """Return the bank that `tensors` returned; of format 1 there are the rows alone.

        Formats before 3 do not say where in its image a row is from.
        """
        rows = tensors.take("memory_bank", None, columns).to(device)
        if not {"projection", "image_of"} & set(tensors.names()):
            return cls.of_rows(rows, torch.Generator().manual_seed(seed))
        projection = tensors.take("projection", columns, PROJECTION).to(device)
        places = torch.full((len(rows), 3), -1)
        places[:, 0] = tensors.take("image_of", len(rows), dtype=torch.int64)
        if "place_of" in tensors.names():
            places[:, 1:] = tensors.take("place_of", len(rows), 2, dtype=torch.int64)
        if len(places) and int(places.min()) < -1:
            raise ModelFileError("the model's rows are from places with negative numbers: train it again")
        return cls(rows, places.to(device), projection, rows @ projection)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what is saved of the bank, by name; the projected rows can be had again."""
        return {
            "memory_bank": self.rows,
            "image_of": self.image_of,
            "place_of": self.places[:, 1:],
            "projection": self.projection,
        }

    def typical_distance(self) -> float:
        """Return the median distance of the rows to their nearest neighbour among the others.

        A unit for scores where there is no threshold. Of a large bank some 2,000 rows are asked.
        """
        numbers = torch.arange(len(self.rows), device=self.rows.device)
        sample = numbers[:: max(1, len(self.rows) // 2000)]
        index = NeighborIndex(self.rows, numbers, queries=len(sample))
        distances, _ = index.search(self.rows[sample], groups=sample)
        return float(distances.median())

    def chosen(self, index: torch.Tensor) -> "MemoryBank":
        """Return the bank of the rows `index` (k,) alone."""
        return MemoryBank(self.rows[index], self.places[index], self.projection, self.projected[index])

    def joined(self, other: "MemoryBank") -> "MemoryBank":
        """Return the bank with the rows of `other`, on the same projection, behind its own."""
        if not len(self):
            return other
        return MemoryBank(
            torch.cat([self.rows, other.rows]),
            torch.cat([self.places, other.places]),
            self.projection,
            torch.cat([self.projected, other.projected]),
        )


def places_of(images: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return the places (n * h * w, 3) of the patches of images with these numbers (n,), in a grid (h, w)."""
    rows, columns = (torch.arange(length, device=images.device) for length in grid)
    return torch.cartesian_prod(images, rows, columns)


class Patches(Protocol):
    """Patch features of some images, to be had more than once."""

    def features(self) -> torch.Tensor:
        """Return the features (n, h, w, d)."""


@dataclass(frozen=True)
class PatchMaps:
    """Patch features of a batch of images, kept as the backbone's maps and embedded whenever they are wanted.

    The maps are up to fifteen times smaller than the features, and embedding is cheap.
    """

    maps: Maps  # one (n, c, h, w) a layer
    embed: Embed

    def features(self) -> torch.Tensor:
        """Return the features (n, h, w, d)."""
        return self.embed(self.maps)

    def images(self, chosen: slice) -> "PatchMaps":
        """Return the features of some images; copied, as a slice would keep the whole batch in memory."""
        return PatchMaps([layer[chosen].clone() for layer in self.maps], self.embed)


@dataclass(frozen=True)
class PatchFeatures:
    """Patch features as they are: (n, h, w, d)."""

    values: torch.Tensor

    def features(self) -> torch.Tensor:
        """Return the features (n, h, w, d)."""
        return self.values


class Portion:
    """Patches that are thinned out together."""

    def __init__(self) -> None:
        self._patches: list[Patches] = []
        self._projected: list[torch.Tensor] = []
        self._places: list[torch.Tensor] = []
        self.size = 0

    def add(self, patches: Patches, projected: torch.Tensor, places: torch.Tensor) -> None:
        """Add patches; `projected` (n, PROJECTION) and `places` (n, 3) are theirs."""
        self._patches.append(patches)
        self._projected.append(projected)
        self._places.append(places)
        self.size += len(projected)

    @property
    def images(self) -> int:
        """How many images the patches are of."""
        return len(torch.cat(self._places)[:, 0].unique())

    def projected(self) -> torch.Tensor:
        """Return the patches (n, PROJECTION) on the projection."""
        return torch.cat(self._projected)

    def bank(self, index: torch.Tensor, projected: torch.Tensor, projection: torch.Tensor) -> MemoryBank:
        """Return the patches with the numbers `index` (m,), which are `projected` already, as a bank."""
        return MemoryBank(self.rows(index), torch.cat(self._places)[index], projection, projected)

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """Return the patches (m, d) with the numbers `index` (m,), embedding one batch at a time."""
        selection = torch.empty(0)
        first = 0
        for patches in self._patches:
            rows = patches.features().flatten(0, 2)
            if first == 0:
                selection = rows.new_empty(len(index), rows.shape[1])
            here = (index >= first) & (index < first + len(rows))
            selection[here] = rows[index[here] - first]
            first += len(rows)
        return selection


class Keep(Protocol):
    """How a portion of patches enters a bank."""

    def thinned(self, bank: MemoryBank, portion: Portion) -> MemoryBank:
        """Return the bank with what is kept of the portion."""


@dataclass(frozen=True)
class KeepShare:
    """Keep the same share of every portion: the bank grows."""

    select: Select
    share: float

    def thinned(self, bank: MemoryBank, portion: Portion) -> MemoryBank:
        """Return the bank with a share of the portion behind its rows."""
        projected = portion.projected()
        chosen = self.select(projected, max(1, int(len(projected) * self.share)))
        addition = projected[chosen]
        del projected  # before the features take its place
        return bank.joined(portion.bank(chosen, addition, bank.projection))


@dataclass(frozen=True)
class KeepNumber:
    """Keep a number of rows: those kept so far and the next portion are thinned out together.

    A coreset of coresets: every patch has a row within the sum of the portions' covering radii, instead of
    one radius.
    """

    select: Select
    number: int

    def thinned(self, bank: MemoryBank, portion: Portion) -> MemoryBank:
        """Return at most `number` rows of the bank and the portion together."""
        before = len(bank)
        projected = torch.cat([bank.projected, portion.projected()])
        chosen = self.select(projected, min(len(projected), self.number))
        old, new = chosen[chosen < before], chosen[chosen >= before]
        addition = projected[new]
        del projected  # before the features take its place
        return bank.chosen(old).joined(portion.bank(new - before, addition, bank.projection))


@dataclass(frozen=True)
class KeepFarthest:
    """Keep so many rows an image of what the bank covers least, beginning with the farthest from it."""

    rows_an_image: float

    def thinned(self, bank: MemoryBank, portion: Portion) -> MemoryBank:
        """Return the bank with the patches behind its rows that a greedy coreset would add to it."""
        projected = portion.projected()
        size = min(len(projected), max(1, round(self.rows_an_image * portion.images)))
        chosen = coreset_extension(projected, size, NeighborIndex(bank.projected, queries=len(projected)))
        return bank.joined(portion.bank(chosen, projected[chosen], bank.projection))


class MemoryBankBuilder:
    """Collects patches and thins them out, all at once where they fit and in portions where they do not.

    Up to `buffer` patches a portion is everything, and the result is the sampler's on all patches.

    Parameters
    ----------
    keep
        What is kept of a portion: `KeepShare` or `KeepNumber`.
    generator
        Draws the projection.
    buffer
        Patches held before they are thinned out.
    bank
        The rows to begin with, and the projection; without, there are none, and it is drawn.
    """

    def __init__(
        self, keep: Keep, generator: torch.Generator, buffer: int = BUFFER, bank: MemoryBank | None = None
    ) -> None:
        self._keep, self._generator, self._buffer, self._bank = keep, generator, buffer, bank
        self._portion = Portion()
        self._portions = 0

    def add(self, patches: Patches, images: torch.Tensor) -> None:
        """Add the patches of images with these numbers (k,), image after image, each with as many."""
        features = patches.features()
        rows = features.flatten(0, 2)
        if self._bank is None:
            self._bank = MemoryBank.of_rows(rows[:0], self._generator)
        places = places_of(images.to(rows.device), (features.shape[1], features.shape[2]))
        self._portion.add(patches, rows @ self._bank.projection, places)
        if self._portion.size >= self._buffer:
            self._thin_out(self._bank)

    def finish(self) -> MemoryBank:
        """Thin out what is left and return the bank.

        Raises
        ------
        ValueError
            When there were no patches at all.
        """
        if self._bank is None:
            raise ValueError("a memory bank of no patches was asked for: add some first")
        if self._portion.size:
            self._thin_out(self._bank)
        if self._portions > 1:
            log.info("the memory bank was thinned out in %d portions to bound the memory", self._portions)
        return self._bank

    def _thin_out(self, bank: MemoryBank) -> None:
        self._bank = self._keep.thinned(bank, self._portion)
        self._portion = Portion()
        self._portions += 1
