"""A detector with a memory bank: how it is filled, added to, and what it says of its own images."""

import functools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch

from anomaly_lib.detectors.frozen import FrozenDetector
from anomaly_lib.detectors.patchcore.calibration import (
    CalibrationImages,
    Replacements,
    leave_one_out_scores,
)
from anomaly_lib.detectors.patchcore.memory_bank import (
    KeepFarthest,
    MemoryBank,
    MemoryBankBuilder,
    PatchMaps,
    places_of,
)
from anomaly_lib.detectors.places import PatchPlace
from anomaly_lib.detectors.sampling import Sampler
from anomaly_lib.detectors.sources import Images
from anomaly_lib.errors import DataError, ModelFileError, ParameterError
from anomaly_lib.kernels.neighbors import NeighborIndex
from anomaly_lib.progress import Progress


class BankDetector(FrozenDetector):
    """The memory bank of `PatchCore`, whose hyper-parameters and attributes these are."""

    target_embed_dimension: int
    patchsize: int
    sampler: Sampler
    buffer: int
    num_nn: int
    reweight: int
    memory_bank_: MemoryBank
    _index: NeighborIndex

    @abstractmethod
    def embed(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the patch features (n, h, w, d) of the backbone's maps (n, c, h, w), one a layer."""

    @property
    def least_images(self) -> int:
        """How many images the rows are of, but for those behind the last of them; 0 where nobody knows."""
        return int(self.memory_bank_.image_of.max()) + 1

    def learn_more(
        self, images: Images | torch.Tensor, calibrate: bool, progress: Progress
    ) -> np.ndarray | None:
        """Add to the memory bank what it covers least of the patches of further images.

        As many rows an image as it has so far. The scores in `calibration_` of earlier images stay as they
        were: to more rows they could only be nearer. Of images that do not count for the threshold, every
        patch that still reaches it is added too.
        """
        bank = self.memory_bank_
        first = self.images_
        keep = KeepFarthest(len(bank) / max(first, 1))
        builder = MemoryBankBuilder(keep, torch.Generator(), self.buffer, bank)
        seen = self.fill(builder, images, first, progress)
        if calibrate:
            return self.left_out_scores(seen, len(images), first, len(bank), progress)
        self.take(self.memory_bank_.joined(self._still_strange(seen)))
        return None

    def _still_strange(self, images: CalibrationImages) -> MemoryBank:
        """Return the patches of these images that reach the threshold."""
        strange = [self.memory_bank_.chosen(torch.zeros(0, dtype=torch.int64))]
        for features, numbers in images:
            patches, places = (
                features.flatten(0, 2),
                places_of(numbers, (features.shape[1], features.shape[2])),
            )
            reaches = self._index.search(patches, self.num_nn)[0].mean(dim=1) >= self.threshold_
            rows, projection = patches[reaches], self.memory_bank_.projection
            strange.append(MemoryBank(rows, places[reaches], projection, rows @ projection))
        return functools.reduce(MemoryBank.joined, strange)

    def nearest_patches(self, image: torch.Tensor, row: int, column: int, k: int = 5) -> list[PatchPlace]:
        """Return the `k` rows of the memory bank nearest to a patch of an image, where they are from."""
        self._require_fitted()
        features = self.embed(self.features_of_batch(image[None].to(self.device)).maps)[0]  # (h, w, d)
        height, width = features.shape[:2]
        stride = image.shape[1] / height  # pixels between patches
        top = min(max(int(row / stride), 0), height - 1)
        left = min(max(int(column / stride), 0), width - 1)
        distances, rows = self._index.search(features[top, left][None], min(k, len(self.memory_bank_)))
        places = self.memory_bank_.places[rows[0]]
        if int(places.min()) < 0:
            raise DataError("the model does not say where the rows of its memory bank are from: fit it again")
        corners = (places[:, 1:] + (1 - self.patchsize) / 2) * stride
        side = round(self.patchsize * stride)
        return [
            PatchPlace(int(place[0]), round(float(corner[0])), round(float(corner[1])), side, float(distance))
            for place, corner, distance in zip(places, corners, distances[0], strict=True)
        ]

    def fill(
        self, builder: MemoryBankBuilder, images: Images | torch.Tensor, first: int, progress: Progress
    ) -> CalibrationImages:
        """Fill the memory bank with images, numbered from `first` on, and return them."""
        calibration_images, number = CalibrationImages(len(images)), first
        for features in self.features(images, progress):
            patches = PatchMaps(features.maps, self.embed)
            numbers = torch.arange(number, number + len(features))
            builder.add(patches, numbers)
            calibration_images.add(patches, numbers)
            number += len(features)
        self.take(builder.finish())
        return calibration_images

    def left_out_scores(
        self, seen: CalibrationImages, images: int, first: int, rows_before: int, progress: Progress
    ) -> np.ndarray:
        """Return the scores (images,) of those seen, numbered from `first` on, as if the bank had not."""
        scores = np.full(images, np.nan, np.float32)
        scores[seen.numbers - first] = leave_one_out_scores(
            seen,
            self.memory_bank_,
            self._index,
            self._replacements(seen, rows_before),
            self.num_nn,
            self.reweight,
            progress,
        )
        return scores

    def _replacements(self, images: CalibrationImages, rows_before: int) -> Replacements:
        """Return the rows that the bank would have in place of those of each image, for the threshold."""
        if self.sampler in ("greedy_coreset", "approx_greedy_coreset"):
            return Replacements.of_greedy_coreset(images, self.memory_bank_, rows_before)
        return Replacements.none(self.memory_bank_)

    def of_bank(self, bank: MemoryBank) -> Self:
        """Take over a memory bank that was filled elsewhere, in place of `fit`; there is no threshold."""
        self._forget()
        self._network = self._load_network()  # now, since weights that are missing are missing now
        self.take(bank)
        return self._calibrate(None)

    def take(self, bank: MemoryBank) -> None:
        """Score against this memory bank from now on."""
        if bank.rows.shape[1] != self.target_embed_dimension:
            raise ModelFileError(
                f"the memory bank has rows of {bank.rows.shape[1]} numbers and the model's patches have "
                f"{self.target_embed_dimension}: its files are of different models"
            )
        if self.num_nn > len(bank):
            raise ParameterError(f"{self.num_nn} neighbours were asked of {len(bank)} rows")
        self.memory_bank_ = bank
        self._index = NeighborIndex(bank.rows, bank.image_of)
