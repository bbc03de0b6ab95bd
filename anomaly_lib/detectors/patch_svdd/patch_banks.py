"""Memory banks of Patch SVDD: embeddings of normal patches, for each size of patches, and their search."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from anomaly_lib.detectors.patch_svdd.embedding import EMBEDDED, PatchEncoder
from anomaly_lib.detectors.places import PatchPlace
from anomaly_lib.detectors.sampling import Sampler, select_rows
from anomaly_lib.kernels.neighbors import NeighborIndex
from anomaly_lib.kernels.patches import spread_scores
from anomaly_lib.progress import Progress, track

# Training images scored at a time for the threshold.
_SCORED = 8


@dataclass(frozen=True)
class Sampling:
    """How memory banks are thinned out; see `anomaly_lib.detectors.sampling`."""

    sampler: Sampler
    coreset: float
    seed: int

    def chosen(self, rows: torch.Tensor, generator: torch.Generator, progress: Progress) -> torch.Tensor:
        """Return the numbers of the rows (n, d) to keep."""
        size = max(1, int(len(rows) * self.coreset)) if self.coreset <= 1 else int(self.coreset)
        if self.sampler == "identity" or size >= len(rows):
            return torch.arange(len(rows), device=rows.device)
        return select_rows(rows, size, self.sampler, generator, progress)


class PatchBanks:
    """The memory banks, ready to be searched.

    Parameters
    ----------
    encoder
        Embeds the patches that are asked for.
    banks
        By the side of the patches, embeddings (rows, D) float32.
    numbers
        Likewise the number (rows,) int64 of each row's patch, counted row by row through all images.
    """

    def __init__(
        self, encoder: PatchEncoder, banks: Mapping[int, torch.Tensor], numbers: Mapping[int, torch.Tensor]
    ) -> None:
        self.encoder, self.banks, self.numbers = encoder, dict(banks), dict(numbers)
        self._indexes = {
            side: NeighborIndex(bank, (numbers[side] // encoder.patches(side)).to(bank.device))
            for side, bank in banks.items()
        }

    @classmethod
    def filled(
        cls, encoder: PatchEncoder, pixels: torch.Tensor, sampling: Sampling, progress: Progress
    ) -> Self:
        """Return the banks of the patches of images (n, 3, h, w) uint8, or of a coreset of them."""
        embeddings = _embeddings(encoder, pixels, progress)
        banks, numbers = {}, {}
        generator = torch.Generator().manual_seed(sampling.seed)
        for side in encoder.strides:
            rows = embeddings.pop(side).flatten(0, 2)  # (n * rows * columns, D)
            chosen = sampling.chosen(rows, generator, progress)
            banks[side] = rows if len(chosen) == len(rows) else rows[chosen]
            numbers[side] = chosen.cpu()
            del rows  # before the next bank
        return cls(encoder, banks, numbers)

    @property
    def least_images(self) -> int:
        """How many images the rows are of, but for those behind the last of them."""
        return (
            max(int(of_side.max()) // self.encoder.patches(side) for side, of_side in self.numbers.items())
            + 1
        )

    def of_whole_images(self) -> bool:
        """Return whether the banks have all patches of some images, and the same of each size."""
        images = {len(of_side) / self.encoder.patches(side) for side, of_side in self.numbers.items()}
        whole = all(torch.equal(of_side, torch.arange(len(of_side))) for of_side in self.numbers.values())
        return whole and len(images) == 1 and all(number.is_integer() for number in images)

    def extended(
        self, pixels: torch.Tensor, first: int, sampling: Sampling, progress: Progress
    ) -> "PatchBanks":
        """Return the banks with patches of images (n, 3, h, w) uint8 that are numbered from `first` on.

        Thinned-out banks take in as many rows an image as they have.
        """
        embeddings = _embeddings(self.encoder, pixels, progress)
        banks, numbers = {}, {}
        generator = torch.Generator().manual_seed(sampling.seed)
        for side, bank in self.banks.items():
            rows = embeddings.pop(side).flatten(0, 2)
            share = min(1.0, len(bank) / max(1, first * self.encoder.patches(side)))
            chosen = replace(sampling, coreset=share).chosen(rows, generator, progress)
            banks[side] = torch.cat([bank, rows[chosen]])
            here = chosen.cpu() + first * self.encoder.patches(side)
            numbers[side] = torch.cat([self.numbers[side], here])
        return PatchBanks(self.encoder, banks, numbers)

    def maps(
        self, images: torch.Tensor, image_numbers: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Return the anomaly maps (n, h, w) of images (n, 3, h, w) by kind: of each level, sum and product.

        With the `numbers` (n,) of training images, an image's own patches are no neighbours of its patches.
        """
        maps: dict[str, torch.Tensor] = {}
        for side, embeddings in self.encoder.embed(images).items():
            groups = (
                None if image_numbers is None else image_numbers.repeat_interleave(self.encoder.patches(side))
            )
            squared, _ = self._indexes[side].search(embeddings.flatten(0, 2), groups=groups)
            distances = squared[:, 0].sqrt().unflatten(0, embeddings.shape[:3])  # (n, rows, columns)
            size = (images.shape[2], images.shape[3])
            maps[f"K{side}"] = spread_scores(distances, size, side, self.encoder.strides[side])
        levels = torch.stack(list(maps.values()))
        return maps | {"sum": levels.sum(dim=0), "product": levels.prod(dim=0)}

    def left_out_scores(
        self, pixels: torch.Tensor, chosen: torch.Tensor, first: int, progress: Progress
    ) -> np.ndarray:
        """Return the scores (n,) of training images (n, 3, h, w) uint8 against the patches of others.

        They are numbered from `first` on. Only those `chosen` (k,) are scored; it is nan of the others.
        """
        of_all = np.full(len(pixels), np.nan, np.float32)
        for batch in track(chosen.split(_SCORED) if len(chosen) else (), "threshold", len(chosen), progress):
            here = batch.to(pixels.device)
            scores = self.maps(pixels[here], first + here)["product"].flatten(1).amax(dim=1)
            # Where a small bank has no patches of other images, infinite distances have made nan.
            of_all[batch.numpy()] = scores.nan_to_num_(nan=torch.inf).cpu().numpy()
        return of_all

    def nearest(self, image: torch.Tensor, row: int, column: int, k: int, side: int) -> list[PatchPlace]:
        """Return the `k` nearest rows to the patch of an image (3, h, w) with this middle, in pixels."""
        stride, (rows, columns) = self.encoder.strides[side], self.encoder.grid(side)
        top, left = (
            stride * min(max(0, round((middle - side / 2) / stride)), length - 1)
            for middle, length in ((row, rows), (column, columns))
        )
        patch = self.encoder.embed_patch(image, top, left, side)
        squared, nearest = self._indexes[side].search(patch[None], min(k, len(self.banks[side])))
        places = []
        for distance, number in zip(squared[0].sqrt(), self.numbers[side][nearest[0].cpu()], strict=True):
            image_number, place = divmod(int(number), rows * columns)
            top, left = (stride * position for position in divmod(place, columns))
            places.append(PatchPlace(image_number, top, left, side, float(distance)))
        return places


def _embeddings(encoder: PatchEncoder, pixels: torch.Tensor, progress: Progress) -> dict[int, torch.Tensor]:
    """Return the embeddings (n, rows, columns, D) of images (n, 3, h, w) uint8, by side."""
    banks: dict[int, torch.Tensor] = {}
    done = 0
    for batch in track(pixels.split(EMBEDDED), "embed", len(pixels), progress):
        for side, embeddings in encoder.embed(batch).items():
            if side not in banks:
                banks[side] = embeddings.new_empty(len(pixels), *embeddings.shape[1:])
            banks[side][done : done + len(batch)] = embeddings
        done += len(batch)
    return banks
