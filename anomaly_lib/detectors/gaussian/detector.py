"""Gaussian: one normal distribution a level of a frozen network, and the distance from it.

Rippel, Mertens, Merhof, "Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly
Detection", ICPR 2020; Rippel et al., "Gaussian Anomaly Detection by Modeling the Distribution of Normal Data
in Pretrained Deep Features", IEEE TIM 2021. The image scores follow the authors' code; the maps, and a
threshold from held-out images, are ours.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.frozen import FROZEN_CONSTRAINTS, Features, lasting_weights
from anomaly_lib.detectors.gaussian.features import GaussianFeatures
from anomaly_lib.detectors.gaussian.level_models import (
    Distance,
    LevelModel,
    LinearDistance,
    Reduction,
    fit_pooled,
    fit_positions,
    level_models,
    level_tensors,
    require_form,
)
from anomaly_lib.detectors.gaussian.level_statistics import (
    FOLDS,
    GaussianStatistics,
    HeldOut,
    LevelStatistics,
    in_order,
    pool,
)
from anomaly_lib.detectors.gaussian.levels import require_levels, whole_transform
from anomaly_lib.detectors.gaussian.sigma import sigma_table, sigma_thresholds
from anomaly_lib.detectors.parameters import FLAG, Choice, Constraint, Each, Interval, Optional, Whole
from anomaly_lib.detectors.sources import Images
from anomaly_lib.detectors.watch import Watch
from anomaly_lib.errors import DataError, ModelFileError, ParameterError
from anomaly_lib.evaluation.predictions import Scores
from anomaly_lib.kernels.augment import AUGMENTATIONS
from anomaly_lib.kernels.patches import smooth_maps
from anomaly_lib.networks.backbone import level_layers
from anomaly_lib.networks.devices import PrecisionChoice, pick_device, pick_precision
from anomaly_lib.networks.names import DEFAULT_BACKBONE
from anomaly_lib.progress import Progress


class Gaussian(GaussianFeatures):
    """Detector by distance from the normal distribution of each level's features.

    The score of an image is the mean over the levels (the sum predictor of the paper) of the distances of its
    pooled features; `Scores.parts` has each level's own, as ``level_0``, ``level_1`` ...

    Parameters
    ----------
    backbone, weights
        See `anomaly_lib.networks.backbone.Backbone`.
    levels
        Numbers of the levels, from 0; empty: all. See `anomaly_lib.networks.backbone.level_layers`.
    distance
        ``mahalanobis``, ``l2``, ``sed`` (standardised Euclidean) or ``ocsvm`` (one-class SVM; no maps).
    reduction, variance_threshold
        ``pca`` keeps the principal components up to this share of the variance, ``npca`` those from there on.
    fold
        Which fifth of the images, 0 to 4, is not fitted on and sets `threshold_`. ``None``: the model is
        fitted on all images, and each fifth is scored by what the other four make.
    position_means
        Maps compare a position with its own mean; otherwise all positions share one mean.
    map_levels, level_maps
        Numbers of the levels that maps are made of, some of `levels`; empty: those at strides 4 to 16, as
        finer ones see little and coarser ones smear. And whether `Scores.parts` has each level's own map.
    augment
        Kinds of `anomaly_lib.kernels.augment.AUGMENTATIONS`: any, and the images pass the network
        `augment_passes` times, changed at random.
    false_alarm_rate, robust
        Share of good images that `threshold_` may at most call anomalous; see `Detector.outliers`.
    transform, seed, device, precision
        Input geometry, by default whole pictures, their shorter side as the network was made for; seed of the
        augmentation; where and in which arithmetic the backbone runs.

    Attributes
    ----------
    models_, map_models_
        The model of each level's pooled features, and by level those of the features at single positions.
    calibration_
        (n,) scores of the images that were held out, by a model that was not fitted on them.

    Raises
    ------
    ParameterError
        When a value makes no sense.
    """

    method: ClassVar[str] = "gaussian"
    constraints: ClassVar[Mapping[str, Constraint]] = {
        **FROZEN_CONSTRAINTS,
        "levels": Each(Whole(0)),
        "distance": Choice.of(Distance),
        "reduction": Choice.of(Reduction),
        "variance_threshold": Optional(Interval(0, 1)),
        "fold": Optional(Choice(tuple(range(FOLDS)))),
        "position_means": FLAG,
        "map_levels": Each(Whole(0)),
        "level_maps": FLAG,
        "augment": Each(Choice(AUGMENTATIONS)),
        "augment_passes": Whole(1, 100_000),
    }
    calibration_takes: ClassVar[str] = "three"
    models_: list[LevelModel]
    statistics_: GaussianStatistics | None
    map_models_: dict[int, LinearDistance]

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        levels: Sequence[int] = (),
        *,
        weights: str | Path | None = None,
        distance: Distance = "mahalanobis",
        reduction: Reduction = "none",
        variance_threshold: float | None = None,
        fold: int | None = 0,
        position_means: bool = True,
        map_levels: Sequence[int] = (),
        level_maps: bool = False,
        augment: Sequence[str] = (),
        augment_passes: int = 100,
        false_alarm_rate: float = 0.01,
        robust: bool = False,
        transform: Transform | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: PrecisionChoice = "auto",
    ) -> None:
        self.backbone = backbone
        self.levels = tuple(sorted(set(levels))) or tuple(range(len(level_layers(backbone))))
        self.weights = lasting_weights(weights)
        self.distance, self.reduction, self.variance_threshold = distance, reduction, variance_threshold
        self.fold, self.seed = fold, seed
        self.position_means, self.level_maps = position_means, level_maps
        self.map_levels = tuple(sorted(set(map_levels)))
        self.augment, self.augment_passes = tuple(augment), augment_passes
        self.false_alarm_rate, self.robust = false_alarm_rate, robust
        self.transform = transform or self.default_transform()
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self._check_parameters()
        require_levels(self.levels, self.map_levels, backbone)
        if not self.localises and (map_levels or level_maps or not position_means):
            raise ParameterError("distance ocsvm makes no maps: omit the options of maps")
        if (reduction == "none") != (variance_threshold is None):
            raise ParameterError("variance_threshold goes with reduction pca or npca: give both or none")

    def learn(self, images: Images | torch.Tensor, progress: Progress, watch: Watch) -> np.ndarray:
        """Fit a Gaussian a level on the features of normal `images`, in one pass through the network."""
        return in_order(self._learn_statistics(self.collect(images, progress)), len(images))

    def learn_more(self, images: Images | torch.Tensor, calibrate: bool, progress: Progress) -> None:
        """Add further images to the statistics and fit on all of them; all scores it can are set anew."""
        if self.statistics_ is None:
            raise DataError("this model was saved without its statistics: fit it again on all images")
        statistics = copy.deepcopy(self.statistics_)
        new = self.images_ + torch.arange(len(images))
        statistics.merge(self.collect(images, progress, numbers=new, hold_out=calibrate))
        numbers, scores = self._learn_statistics(statistics)
        known, others = np.isfinite(scores), ~np.isin(self.calibration_of_, numbers)  # of other sites' images
        self.calibration_of_ = np.concatenate([self.calibration_of_[others], numbers[known]])
        self.calibration_ = np.concatenate([self.calibration_[others], scores[known]])

    def fit_statistics(self, statistics: GaussianStatistics) -> Self:
        """Fit on what `collect` returned, for one set of images or for several merged, in place of `fit`.

        Raises
        ------
        DataError
            When there were fewer than two images, or they are all the same.
        """
        statistics.forget_numbers()
        numbers, scores = self._learn_statistics(statistics)
        self.images_ = statistics.levels()[0].images
        return self.take_calibration(numbers, scores) if len(numbers) else self._calibrate(None)

    def score_batch(self, images: torch.Tensor) -> Scores:
        """Score images by the distance of their features from the normal ones."""
        features = self.features_of_batch(images)
        distances = self._distances([pool(level) for level in features.maps], self.models_).cpu()
        return self._scores(distances, self._maps(features) if self.localises else {})

    def default_transform(self) -> Transform:
        """Return the geometry of whole pictures, in the size that the network was made for."""
        return whole_transform(self.backbone)

    @property
    def localises(self) -> bool:
        """Whether there are maps: the one-class SVM makes none."""
        return self.distance != "ocsvm"

    def sigma_thresholds(self, sigmas: Sequence[int] = range(1, 9)) -> np.ndarray:
        """Return (levels, sigmas): the Mahalanobis distances that a Gaussian stays below at so many sigma.

        They trust in Gaussian features; see `anomaly_lib.evaluation.thresholds.chi_square_threshold`.
        """
        self._require_fitted()
        if self.distance != "mahalanobis":
            raise ParameterError(f"distance is {self.distance!r}: sigma thresholds are for mahalanobis only")
        return sigma_thresholds(self.models_, sigmas)

    def tables(self, scores: Scores, labels: np.ndarray) -> dict[str, pd.DataFrame]:
        """Return the table ``sigma``: hits and false alarms of each level at 1 to 8 sigma."""
        if self.distance != "mahalanobis":
            return {}
        by_level = dict(zip(self.levels, scores.parts.values(), strict=True))
        return {"sigma": sigma_table(by_level, self.sigma_thresholds(), labels)}

    # Section III-B: the Gaussian of each level

    def _learn_statistics(self, statistics: GaussianStatistics) -> tuple[np.ndarray, np.ndarray]:
        """Fit, and return the numbers (n,) and scores (n,) of the images that were held out."""
        self.statistics_ = statistics
        levels = statistics.levels()
        if levels[0].images < 2:
            raise DataError("a single image to fit on: Gaussian needs at least two images of good parts")
        self.models_ = self._fit_pooled(levels)
        self.map_models_ = self._fit_positions(levels)
        return self.held_out_scores(statistics.held_out(), self.held_out_models())

    def _fit_pooled(self, levels: Sequence[LevelStatistics]) -> list[LevelModel]:
        share = self.variance_threshold or 0.0
        return [fit_pooled(level, self.distance, self.reduction, share) for level in levels]

    def _fit_positions(self, levels: Sequence[LevelStatistics]) -> dict[int, LinearDistance]:
        share = self.variance_threshold or 0.0
        return {
            number: fit_positions(level, self.distance, self.reduction, share, own_means=self.position_means)
            for number, level in zip(self.levels, levels, strict=True)
            if level.keeps_positions
        }

    # Section III-C: distances, and the sum predictor, their mean over the levels

    @torch.inference_mode()
    def _distances(self, pooled: Sequence[torch.Tensor], models: Sequence[LevelModel]) -> torch.Tensor:
        """Return the distances (levels, n), float64, of each level's pooled features (n, d)."""
        return torch.stack([model(level) for level, model in zip(pooled, models, strict=True)])

    def _maps(self, features: Features) -> dict[int, torch.Tensor]:
        """Return the anomaly maps (n, h, w) of the levels that make some."""
        maps = {}
        for level, level_features in zip(self.levels, features.maps, strict=True):
            if model := self.map_models_.get(level):
                distances = model.on_grid_of(level_features)(level_features.permute(0, 2, 3, 1))  # (n, h, w)
                maps[level] = smooth_maps(distances, features.size).cpu()
        return maps

    def _scores(self, distances: torch.Tensor, maps: Mapping[int, torch.Tensor]) -> Scores:
        """Return the scores of distances (levels, n) and maps (n, h, w) by level."""
        parts = {}
        for level, of_level in zip(self.levels, distances, strict=True):
            level_map = maps[level].numpy() if self.level_maps and level in maps else None
            parts[f"level_{level}"] = Scores(of_level.float().numpy(), level_map)
        mean_map = torch.stack(list(maps.values())).mean(dim=0).numpy() if maps else None
        return Scores(distances.mean(dim=0).float().numpy(), mean_map, parts)

    # The threshold, from images that were not fitted on (not in the paper)

    def held_out_models(self) -> dict[int, list[LevelModel]]:
        """Return the models that score each fold, of what it was fitted on without the fold.

        Folds whose others have fewer than two images are left out.
        """
        if self.fold is not None:
            return {self.fold: self.models_}
        assert self.statistics_ is not None
        without = {fold: self.statistics_.levels(without=fold) for fold in range(FOLDS)}
        return {fold: self._fit_pooled(others) for fold, others in without.items() if others[0].images >= 2}

    def held_out_scores(
        self, held_out: Iterable[HeldOut], models: Mapping[int, Sequence[LevelModel]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers (n,) and scores (n,) of what was held out, infinite without models."""
        scores, all_numbers = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
        for fold, numbers, pooled in held_out:
            all_numbers.append(numbers.numpy())
            if fold in models:
                scores.append(self._distances(pooled, models[fold]).mean(dim=0).float().cpu().numpy())
            else:
                scores.append(np.full(len(numbers), np.inf, np.float32))
        return np.concatenate(all_numbers), np.concatenate(scores)

    # Saving and loading

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the models of the levels, of pooled features and of positions."""
        pooled = level_tensors("pooled", dict(zip(self.levels, self.models_, strict=True)))
        fitted = pooled | level_tensors("positions", self.map_models_)
        kept = {} if self.statistics_ is None else self.statistics_.tensors()
        return fitted | {f"statistics.{name}": tensor for name, tensor in kept.items()}

    @property
    def lowest_score(self) -> float:
        """The lowest score that an image can have: 0 of a distance; the SVM's are on both sides of 0."""
        return 0.0 if self.distance != "ocsvm" else -math.inf

    def restore_tensors(self, tensors: SavedTensors) -> None:
        """Take over the models of the levels."""
        kept = tensors.below("statistics.")
        pooled = level_models("pooled", self.levels, tensors, self.device, torch.float64)
        self.map_models_ = level_models("positions", self.levels, tensors, self.device, torch.float32)
        self.models_ = list(pooled.values())
        chosen = set(self.map_levels) or set(self.map_models_)
        whole = len(pooled) == len(self.levels) and set(self.map_models_) == chosen
        if not whole or self.localises != bool(chosen):
            raise ModelFileError("the model lacks the Gaussians of some levels: train it again")
        for level, maps in zip(self.levels, self.maps_of_nothing(), strict=True):
            require_form(pooled[level], maps.shape[1], self.distance, self.reduction, own_means=False)
            if positions := self.map_models_.get(level):
                require_form(positions, maps.shape[1], self.distance, self.reduction, self.position_means)
        self.statistics_ = None
        if kept.names():
            dimensions = [maps.shape[1] for maps in self.maps_of_nothing()]
            self.statistics_ = self.no_statistics(set(self.map_models_)).restore(kept, dimensions)
        kept.require_empty()
