"""Gaussian of several sites: the pooled model, from sums that each of them sends once.

A site sends, for each level of the network, how many images it has and sums over their features: of the
features, of their products with each other, and two more that the shrinkage needs (see
`anomaly_lib.detectors.gaussian.moments`). Sums of sites add up to those of the pooled images, so that the
merged model is the pooled one, up to rounding. Then the director sends the model back, and each site answers
with the scores of its images that were held out, as numbers. Features of single images leave a site only
where PCA or a one-class SVM needs them: averaged over the image, some hundred numbers a level.

Which images are held out is decided among all of them, in the order of the sites: so a site has to know how
many images the sites before it have, and all together.
"""

import copy

import numpy as np
import torch

from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.gaussian import Gaussian
from anomaly_lib.detectors.gaussian.level_models import LevelModel, level_models, level_tensors
from anomaly_lib.detectors.gaussian.level_statistics import FOLDS, GaussianStatistics, folds_of
from anomaly_lib.errors import DataError, ModelFileError
from anomaly_lib.federated.ends import Director, Site
from anomaly_lib.federated.turns import Turn
from anomaly_lib.progress import Progress, silent

_HELD_OUT = "held_out."


class GaussianSite(Site[Gaussian]):
    """One site's end; see `Site`."""

    _statistics: GaussianStatistics | None = None

    def share(self, progress: Progress = silent) -> dict[str, torch.Tensor]:
        """Return the statistics of this site's images."""
        first, images, _ = self.turn
        self._statistics = self.detector.collect(
            self.images,
            progress,
            numbers=torch.arange(first, first + images),
            folds=_own_folds(self.detector, self.turn),
        )
        return self._statistics.tensors(held_out=False)

    def _left_out_scores(
        self, model: SavedTensors, extra: SavedTensors, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray]:
        if self._statistics is None:
            self.share(progress)
        assert self._statistics is not None
        by_fold = _unpacked(self.detector, extra.below(_HELD_OUT))
        extra.require_empty()
        self.detector.restore_tensors(model)
        model.require_empty()
        return self.detector.held_out_scores(self._statistics.held_out(), by_fold)


class GaussianDirector(Director[Gaussian]):
    """The director's end; see `Director`."""

    def __init__(self, detector: Gaussian) -> None:
        super().__init__(detector)
        self._statistics: GaussianStatistics | None = None

    def _add(self, tensors: SavedTensors, turn: Turn) -> None:
        localising = {
            level
            for place, level in enumerate(self.detector.levels)
            if any(name.endswith(f".{place}.position_sum") for name in tensors.names())
        }
        statistics = self.detector.no_statistics(localising)
        dimensions = [maps.shape[1] for maps in self.detector.maps_of_nothing()]
        statistics.restore(tensors, dimensions)
        tensors.require_empty()
        fold = self.detector.fold
        fitted_on = turn.images if fold is None else int((_own_folds(self.detector, turn) != fold).sum())
        if any(level.images != fitted_on * self._times for level in statistics.levels()):
            raise ModelFileError(f"a site's statistics are not those of its {fitted_on} images")
        if self._statistics is None:
            self._statistics = statistics
        else:
            merged = copy.deepcopy(self._statistics)
            merged.merge(statistics)
            self._statistics = merged

    def _finished(self) -> dict[str, torch.Tensor]:
        if self._statistics is None:
            raise DataError("no site has sent statistics")
        self.detector.fit_statistics(self._statistics)
        return _packed(self.detector)

    def _model(self) -> dict[str, torch.Tensor]:
        tensors = self.detector.tensors()
        return {name: value for name, value in tensors.items() if not name.startswith("statistics.")}

    def _expected_bytes(self, images: int, shape: tuple[int, int]) -> int:
        maps = self.detector.features_of_batch(torch.zeros(1, 3, *shape)).maps
        statistics = self.detector.no_statistics(set(self.detector.levels))
        statistics.add(maps, torch.full((1,), 0 if self.detector.fold is None else -1))
        portion = sum(tensor.nbytes for tensor in statistics.tensors().values())
        rows = 8 * sum(level.shape[1] for level in maps) * self._times
        return portion * (FOLDS if self.detector.fold is None else 1) + images * rows

    @property
    def _times(self) -> int:
        """How many times an image is seen."""
        return self.detector.augment_passes if self.detector.augment else 1


def _own_folds(detector: Gaussian, turn: Turn) -> np.ndarray:
    """Return the folds (n,) of a site's images, as they are dealt out among those of all sites."""
    return folds_of(turn.total, detector.fold)[turn.first : turn.first + turn.images]


def _packed(detector: Gaussian) -> dict[str, torch.Tensor]:
    """Return the models that score held-out images, by fold and level."""
    return {
        f"{_HELD_OUT}{fold}.{name}": tensor
        for fold, models in detector.held_out_models().items()
        for name, tensor in level_tensors("pooled", dict(zip(detector.levels, models, strict=True))).items()
    }


def _unpacked(detector: Gaussian, saved: SavedTensors) -> dict[int, list[LevelModel]]:
    """Return what `_packed` did, checked."""
    by_fold = {}
    for fold in range(FOLDS):
        of_fold = saved.below(f"{fold}.")
        if of_fold.names():
            models = level_models("pooled", detector.levels, of_fold, detector.device, torch.float64)
            of_fold.require_empty()
            by_fold[fold] = list(models.values())
    saved.require_empty()
    return by_fold
