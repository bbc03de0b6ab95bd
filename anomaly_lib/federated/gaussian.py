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

import torch

from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.gaussian import Gaussian
from anomaly_lib.detectors.gaussian.level_models import LevelModel, level_models, level_tensors
from anomaly_lib.detectors.gaussian.level_statistics import GaussianStatistics, folds_of
from anomaly_lib.detectors.sources import Images
from anomaly_lib.errors import DataError
from anomaly_lib.federated.calibration import Director, sent
from anomaly_lib.federated.turns import Tensors, Turn
from anomaly_lib.progress import Progress, silent


class GaussianSite:
    """One site's end.

    Parameters
    ----------
    detector
        Not fitted; with the same parameters at every site and at the director.
    images
        The site's own.
    turn
        Where they are among all.
    """

    def __init__(self, detector: Gaussian, images: Images | torch.Tensor, turn: Turn) -> None:
        self._detector, self._images, self._turn = detector, images, turn
        self._statistics: GaussianStatistics | None = None

    def statistics(self, progress: Progress = silent) -> dict[str, torch.Tensor]:
        """Return what the director merges, by name; errors as of `Gaussian.fit`."""
        first, images, total = self._turn
        own = slice(first, first + images)
        self._statistics = self._detector.collect(
            self._images,
            progress,
            numbers=torch.arange(first, first + images),
            folds=folds_of(total, self._detector.fold)[own],
        )
        return self._statistics.tensors(held_out=False)

    def calibration(self, models: Tensors) -> dict[str, torch.Tensor]:
        """Return the scores of the images held out here, and their numbers, by the director's `models`.

        Raises
        ------
        ModelFileError
            When they are no models of this detector.
        """
        if self._statistics is None:
            raise DataError("this site has sent no statistics: they come first")
        by_fold = _unpacked(self._detector, models)
        numbers, scores = self._detector.held_out_scores(self._statistics.held_out(), by_fold)
        return sent(numbers, scores)


class GaussianDirector(Director[Gaussian]):
    """The director's end.

    Parameters
    ----------
    detector
        Not fitted; it becomes the merged model.
    total
        How many images all sites have.
    """

    def __init__(self, detector: Gaussian, total: int) -> None:
        super().__init__(detector)
        self._total = total
        self._statistics: GaussianStatistics | None = None

    def add_statistics(self, tensors: Tensors) -> None:
        """Merge what a site sent, one after the other in the order of the sites.

        Raises
        ------
        ModelFileError
            When it is not what `GaussianSite.statistics` returns.
        DataError
            When its images were of another size.
        """
        saved = SavedTensors(tensors)
        localising = {
            level
            for place, level in enumerate(self.detector.levels)
            if any(name.endswith(f".{place}.position_sum") for name in saved.names())
        }
        statistics = self.detector.no_statistics(localising)
        dimensions = [maps.shape[1] for maps in self.detector.maps_of_nothing()]
        statistics.restore(saved, dimensions)
        saved.require_empty()
        if self._statistics is None:
            self._statistics = statistics
        else:
            self._statistics.merge(statistics)

    def models(self) -> dict[str, torch.Tensor]:
        """Fit on all that was merged, and return what sites score what they held out by.

        Raises
        ------
        DataError
            When there were fewer than two images, or they are all the same.
        """
        if self._statistics is None:
            raise DataError("no site has sent statistics")
        self.detector.fit_statistics(self._statistics)
        self.detector.images_ = self._total
        return _packed(self.detector)


def _packed(detector: Gaussian) -> dict[str, torch.Tensor]:
    """Return the models that score held-out images, by fold and level."""
    return {
        f"{fold}.{name}": tensor
        for fold, models in detector.held_out_models().items()
        for name, tensor in level_tensors("pooled", dict(zip(detector.levels, models, strict=True))).items()
    }


def _unpacked(detector: Gaussian, tensors: Tensors) -> dict[int, list[LevelModel]]:
    """Return what `_packed` did, checked."""
    saved = SavedTensors(tensors)
    folds = sorted({int(name.partition(".")[0]) for name in saved.names()})
    by_fold = {}
    for fold in folds:
        of_fold = saved.below(f"{fold}.")
        models = level_models("pooled", detector.levels, of_fold, detector.device, torch.float64)
        of_fold.require_empty()
        by_fold[fold] = list(models.values())
    return by_fold
