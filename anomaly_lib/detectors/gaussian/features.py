"""What the Gaussian detector sees: section III-A of the TIM paper, the features of each level."""

from collections.abc import Collection, Sequence

import numpy as np
import torch

from anomaly_lib.detectors.frozen import Features, FrozenDetector
from anomaly_lib.detectors.gaussian.level_models import Distance, Reduction
from anomaly_lib.detectors.gaussian.level_statistics import GaussianStatistics, folds_of, pool
from anomaly_lib.detectors.gaussian.levels import localising_levels
from anomaly_lib.detectors.sources import Images
from anomaly_lib.errors import DataError
from anomaly_lib.kernels.augment import Change, augmentation_of
from anomaly_lib.networks.backbone import level_layers
from anomaly_lib.progress import Progress, silent


class GaussianFeatures(FrozenDetector):
    """A detector on the levels of a network; the attributes are hyper-parameters of `Gaussian`."""

    levels: tuple[int, ...]
    map_levels: tuple[int, ...]
    fold: int | None
    distance: Distance
    reduction: Reduction
    augment: tuple[str, ...]
    augment_passes: int
    seed: int

    def backbone_layers(self) -> Sequence[str]:
        """Return the layers of the levels."""
        layers = level_layers(self.backbone)
        return [layers[level] for level in self.levels]

    def collect(
        self,
        images: Images | torch.Tensor,
        progress: Progress = silent,
        *,
        numbers: torch.Tensor | None = None,
        folds: np.ndarray | None = None,
        hold_out: bool = True,
    ) -> GaussianStatistics:
        """Return what `fit` needs to know of the images; of several sets it can be merged.

        They have `numbers` (n,), and are of `folds` (n,); by default they are counted from 0 on, and all
        there are. Some are held out for the threshold, or with `hold_out` false none. A `DataError` says what
        is wrong with the images.
        """
        numbers = torch.arange(len(images)) if numbers is None else numbers
        fold_of = torch.from_numpy(folds_of(len(images), self.fold) if folds is None else folds)
        if self.fold is not None and not hold_out:
            fold_of.fill_(-1)
        statistics = None
        for number, change in enumerate(self._passes()):
            done = 0
            for features in self.features(images, progress, change):
                batch = slice(done, done + len(features))
                done += len(features)
                statistics = statistics or self._none_yet(features)
                if number == 0 and hold_out:
                    statistics.hold_out(features.maps, fold_of[batch], numbers[batch])
                if number > 0 or not self.augment:
                    statistics.add(features.maps, fold_of[batch])
        if statistics is None:
            raise DataError("no images to fit on: the source of images says it has some and gives none")
        return statistics

    def pooled_features(
        self, images: Images | torch.Tensor, progress: Progress = silent, change: Change | None = None
    ) -> list[torch.Tensor]:
        """Return each level's pooled features (n, d), float64 on the CPU; no fit is needed.

        `change`, if any, is done to the batches before the network sees them.
        """
        pooled = [
            [pool(level).cpu() for level in features.maps]
            for features in self.features(images, progress, change)
        ]
        return [torch.cat(level) for level in zip(*pooled, strict=True)]

    def _passes(self) -> list[Change | None]:
        """Return what is done to the images in each pass: first nothing, then what augmentation asks for."""
        augmentation = augmentation_of(self.augment, torch.Generator().manual_seed(self.seed))
        return [None, *([augmentation] * self.augment_passes if self.augment else [])]

    def _none_yet(self, features: Features) -> GaussianStatistics:
        """Return statistics of no images, ready for features like these."""
        strides = [features.size[0] / maps.shape[2] for maps in features.maps]
        localising = localising_levels(self.levels, self.map_levels, strides)
        chosen = zip(self.levels, localising, strict=True)
        return self.no_statistics({level for level, localises in chosen if self.localises and localises})

    def no_statistics(self, localising: Collection[int]) -> GaussianStatistics:
        """Return statistics of no images, with those of positions of the `localising` levels."""
        rows = self.reduction != "none" or self.distance == "ocsvm"
        positions = [level in localising for level in self.levels]
        return GaussianStatistics(self.fold, positions=positions, rows=rows)
