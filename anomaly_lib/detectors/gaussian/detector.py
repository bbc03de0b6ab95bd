"""Gaussian: one normal distribution a level of a frozen network, and the distance from it.

Rippel, Mertens, Merhof, "Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly
Detection", ICPR 2020; Rippel et al., "Gaussian Anomaly Detection by Modeling the Distribution of Normal Data
in Pretrained Deep Features", IEEE TIM 2021. The image scores follow the authors' code; the maps, and a
threshold from held-out images, are ours.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self, get_args

import numpy as np
import pandas as pd
import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.base import Detector, Images, Scores, Watch, checked_batches, normal_threshold
from anomaly_lib.detectors.files import new_folder, none_to_nan, read_model, write_model
from anomaly_lib.detectors.frozen import describe, lasting_weights, remade, require_rate
from anomaly_lib.detectors.gaussian.level_models import (
    Distance,
    LevelModel,
    LinearDistance,
    Reduction,
    fit_pooled,
    fit_positions,
    level_model,
)
from anomaly_lib.detectors.gaussian.level_statistics import (
    FOLDS,
    GaussianStatistics,
    LevelStatistics,
    folds_of,
    pool,
)
from anomaly_lib.errors import DataError, ParameterError
from anomaly_lib.evaluation.thresholds import chi_square_threshold
from anomaly_lib.kernels.augment import AUGMENTATIONS, augmented
from anomaly_lib.kernels.patches import smooth_maps
from anomaly_lib.networks.backbone import Backbone, level_layers
from anomaly_lib.networks.devices import PrecisionChoice, pick_device, pick_precision
from anomaly_lib.networks.names import DEFAULT_BACKBONE, native_size
from anomaly_lib.progress import Progress, silent, track

# Hyper-parameters that a model file keeps.
_SAVED = (
    *(
        "backbone",
        "levels",
        "weights",
        "distance",
        "reduction",
        "variance_threshold",
        "fold",
        "position_means",
    ),
    *("map_levels", "level_maps", "augment", "augment_passes", "false_alarm_rate", "seed", "precision"),
)


class Gaussian(Detector):
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
    map_levels
        Numbers of the levels that maps are made of, some of `levels`; empty: those at strides 4 to 16. Finer
        ones see little, and the coarser ones, however good with whole images, smear what they see.
    level_maps
        Also return each level's own map in `Scores.parts`.
    augment
        Kinds of augmentation, of `anomaly_lib.kernels.augment.AUGMENTATIONS`. Any: the images are passed
        through the network `augment_passes` times, changed at random.
    augment_by_name
        In runs of several categories: by the name that `prepare` tells, what is to be `augment`.
    false_alarm_rate
        Share of good images that `threshold_` may at most call anomalous.
    transform
        Input geometry; by default the square that the network was made for.
    seed, device, precision
        Of the augmentation; where and in which arithmetic the backbone runs.

    Attributes
    ----------
    models_
        The model of each level's pooled features.
    map_models_
        By level, the models of the features at single positions.
    held_out_
        (n,) scores of the images that were held out, by a model that was not fitted on them.

    Raises
    ------
    ParameterError
        When a value makes no sense.
    """

    method: ClassVar[str] = "gaussian"
    models_: list[LevelModel]
    map_models_: dict[int, LinearDistance]
    held_out_: np.ndarray

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
        augment_by_name: Mapping[str, Sequence[str]] | None = None,
        false_alarm_rate: float = 0.01,
        transform: Transform | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: PrecisionChoice = "auto",
    ) -> None:
        self.backbone = backbone
        self.levels = tuple(sorted(set(levels))) or tuple(range(len(level_layers(backbone))))
        self.weights = lasting_weights(weights)
        self.distance, self.reduction, self.variance_threshold = distance, reduction, variance_threshold
        self.fold = fold
        self.position_means, self.level_maps = position_means, level_maps
        self.map_levels = tuple(sorted(set(map_levels)))
        self.augment, self.augment_passes = tuple(augment), augment_passes
        self.augment_by_name = dict(augment_by_name or {})
        self.false_alarm_rate = false_alarm_rate
        self.transform = transform or Transform(native_size(backbone), square=True)
        self.seed = seed
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self._check_parameters()

    def prepare(self, name: str, watch: Watch) -> None:
        """Take the augmentations of this `name`, if it has its own; there are no epochs to watch."""
        self.augment = tuple(self.augment_by_name.get(name, self.augment))

    def fit(self, images: Images | torch.Tensor, progress: Progress = silent) -> Self:
        """Fit a Gaussian a level on the features of normal `images`, in one pass through the network."""
        return self.fit_statistics(self.collect(images, progress))

    def score(self, images: Images | torch.Tensor, progress: Progress = silent) -> Scores:
        """Score images by the distance of their features from the normal ones."""
        self._require_fitted()
        distances, maps = [], []
        total, batches = checked_batches(images)
        for batch in track(batches, "score", total, progress):
            features = self._backbone(batch)
            distances.append(self._distances([pool(level) for level in features], self.models_).cpu())
            if self.map_models_:
                maps.append(self._maps(features, (batch.shape[2], batch.shape[3])).cpu())
        by_level = torch.cat(distances, dim=1) if distances else torch.zeros(len(self.levels), 0)
        if not self.map_models_:
            return self._scores(by_level, None)
        shown, size = len(self.map_models_) if self.level_maps else 1, self.transform.size
        return self._scores(by_level, torch.cat(maps, dim=1) if maps else torch.zeros(shown, 0, size, size))

    def save(self, folder: Path) -> None:
        """Write the Gaussians and the hyper-parameters; the backbone's weights are named, not copied."""
        self._require_fitted()
        description = describe(self, self._backbone, _SAVED)
        pooled = dict(zip(self.levels, self.models_, strict=True))
        tensors = {
            f"{kind}.{level}.{name}": tensor
            for kind, models in (("pooled", pooled), ("positions", self.map_models_))
            for level, model in models.items()
            for name, tensor in model.tensors().items()
        }
        with new_folder(Path(folder)) as unfinished:
            write_model(unfinished, description, tensors)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", weights: str | None = None) -> Self:
        """Return the model in `folder`; the backbone's weights are where they were, or in `weights`."""
        description, tensors = read_model(Path(folder))
        model = remade(cls, description, device, weights)
        model._backbone = model._load_backbone()
        model._backbone.require_same(description["backbone"], folder)
        on_device = {name: tensor.to(model.device) for name, tensor in tensors.items()}
        model.models_ = [level_model(_fields(on_device, f"pooled.{level}.")) for level in model.levels]
        model.map_models_ = {
            level: LinearDistance(**fields)
            for level in model.levels
            if (fields := _fields(on_device, f"positions.{level}."))
        }
        model.threshold_ = none_to_nan(description["threshold"])
        return model

    def collect(self, images: Images | torch.Tensor, progress: Progress = silent) -> GaussianStatistics:
        """Return what `fit` needs to know of the images; of several sets it can be merged.

        Raises
        ------
        DataError
            When there are no images, they are not (n, 3, h, w), or their features are not finite.
        """
        if len(images) == 0:
            raise DataError("no images to fit on: Gaussian needs images of good parts")
        self._backbone = self._load_backbone()
        fold_of = torch.from_numpy(folds_of(len(images), self.fold))
        seen = None
        generator = torch.Generator().manual_seed(self.seed)
        for number in range(1 + self.augment_passes if self.augment else 1):
            total, batches = checked_batches(images)
            first = 0
            for batch in track(batches, "features", total, progress):
                folds = fold_of[first : first + len(batch)]
                first += len(batch)
                if number:
                    batch = augmented(batch, self.augment, generator)
                features = self._backbone(batch)
                seen = seen or self._no_statistics(batch, features)
                if number == 0:
                    seen.hold_out(features, folds)
                if number > 0 or not self.augment:
                    seen.add(features, folds)
        if seen is None:
            raise DataError("no images to fit on: the source of images says it has some and gives none")
        return seen

    def fit_statistics(self, seen: GaussianStatistics) -> Self:
        """Fit on what `collect` returned, for one set of images or for several merged, in place of `fit`.

        Raises
        ------
        DataError
            When there were fewer than two images, or they are all the same.
        """
        if not hasattr(self, "_backbone"):
            self._backbone = self._load_backbone()
        known = seen.fitted()
        if known[0].images < 2:
            raise DataError("a single image to fit on: Gaussian needs at least two images of good parts")
        self.models_ = self._fit_pooled(known)
        self.map_models_ = self._fit_positions(known)
        self.held_out_ = np.concatenate([np.zeros(0, np.float32), *self._held_out_scores(seen)])
        self.threshold_ = normal_threshold(self.held_out_, self.false_alarm_rate, needed="three")
        return self

    def features(
        self,
        images: Images | torch.Tensor,
        progress: Progress = silent,
        *,
        augment: torch.Generator | None = None,
    ) -> list[torch.Tensor]:
        """Return each level's pooled features (n, d), float64 on the CPU; no fit is needed.

        With a generator for `augment`, of images changed at random within the detector's augmentations.
        """
        if not hasattr(self, "_backbone"):
            self._backbone = self._load_backbone()
        pooled = []
        total, batches = checked_batches(images)
        for batch in track(batches, "features", total, progress):
            changed = batch if augment is None else augmented(batch, self.augment, augment)
            pooled.append([pool(maps).cpu() for maps in self._backbone(changed)])
        return [torch.cat(level) for level in zip(*pooled, strict=True)]

    def sigma_thresholds(self, sigmas: Sequence[int] = range(1, 9)) -> np.ndarray:
        """Return (levels, sigmas): the Mahalanobis distances that a Gaussian stays below at so many sigma.

        They trust that the features are Gaussian, and take no image to set; `threshold_` trusts nothing but
        takes held-out images. See `anomaly_lib.evaluation.thresholds.chi_square_threshold`.
        """
        self._require_fitted()
        if self.distance != "mahalanobis":
            raise ParameterError(f"distance is {self.distance!r}: sigma thresholds are for mahalanobis only")
        return np.array(
            [[chi_square_threshold(model.dimensions, sigma) for sigma in sigmas] for model in self.models_]
        )

    def tables(self, scores: Scores, labels: np.ndarray) -> dict[str, pd.DataFrame]:
        """Return the table ``sigma``: hits and false alarms of each level at 1 to 8 sigma."""
        if self.distance != "mahalanobis":
            return {}
        rows = [
            {
                "level": level,
                "sigma": sigma,
                "threshold": threshold,
                "true_positive_rate": _share(part.image[labels] >= threshold),
                "false_positive_rate": _share(part.image[~labels] >= threshold),
            }
            for level, part, thresholds in zip(
                self.levels, scores.parts.values(), self.sigma_thresholds(), strict=True
            )
            for sigma, threshold in enumerate(thresholds, start=1)
        ]
        return {"sigma": pd.DataFrame(rows)}

    def _check_parameters(self) -> None:
        for name, choices in (("distance", get_args(Distance)), ("reduction", get_args(Reduction))):
            if getattr(self, name) not in choices:
                raise ParameterError(f"{name} is {getattr(self, name)!r}: use one of {', '.join(choices)}")
        self._check_levels()
        if (self.reduction == "none") != (self.variance_threshold is None):
            raise ParameterError(
                "variance_threshold goes with reduction pca or npca, and they with it: give both or none"
            )
        if self.variance_threshold is not None and not 0 < self.variance_threshold < 1:
            raise ParameterError(
                f"variance_threshold is {self.variance_threshold}: it must be between 0 and 1"
            )
        if self.fold is not None and not 0 <= self.fold < FOLDS:
            raise ParameterError(f"fold is {self.fold}: use 0 to {FOLDS - 1}, or none for all images")
        for kinds in (self.augment, *self.augment_by_name.values()):
            require_augmentations(kinds)
        if self.augment_passes < 1:
            raise ParameterError(f"--augment_passes {self.augment_passes}: use 1 or more")
        require_rate("false_alarm_rate", self.false_alarm_rate)

    def _check_levels(self) -> None:
        available = len(level_layers(self.backbone))
        if not 0 <= self.levels[0] <= self.levels[-1] < available:
            raise ParameterError(
                f"levels (--extract_blocks) {', '.join(map(str, self.levels))} of {self.backbone}: "
                f"use 0 to {available - 1}"
            )
        if not set(self.map_levels) <= set(self.levels):
            raise ParameterError(
                f"map_levels are {', '.join(map(str, self.map_levels))}: they must be among the levels, "
                f"{', '.join(map(str, self.levels))}"
            )
        if self.distance == "ocsvm" and self.map_levels:
            raise ParameterError(
                f"map_levels are {', '.join(map(str, self.map_levels))}: distance ocsvm makes no maps; "
                "omit them"
            )

    def _load_backbone(self) -> Backbone:
        layers = [level_layers(self.backbone)[level] for level in self.levels]
        return Backbone(
            self.backbone, layers, weights=self.weights, device=self.device, precision=self.precision
        )

    def _no_statistics(self, images: torch.Tensor, features: Sequence[torch.Tensor]) -> GaussianStatistics:
        """Return statistics of no images, ready for images and features like these."""
        strides = [images.shape[2] / maps.shape[2] for maps in features]
        if self.map_levels:
            chosen = [level in self.map_levels for level in self.levels]
        else:
            chosen = [3 < stride < 20 for stride in strides]  # 4 to 16, where the sides do not divide evenly
        if self.distance == "ocsvm":
            chosen = [False] * len(self.levels)
        elif not any(chosen):
            chosen = [True] * len(self.levels)
        return GaussianStatistics(
            self.fold, positions=chosen, rows=self.reduction != "none" or self.distance == "ocsvm"
        )

    # Section III-B of the TIM paper: the Gaussian of each level

    def _fit_pooled(self, known: Sequence[LevelStatistics]) -> list[LevelModel]:
        share = self.variance_threshold or 0.0
        return [fit_pooled(level, self.distance, self.reduction, share) for level in known]

    def _fit_positions(self, known: Sequence[LevelStatistics]) -> dict[int, LinearDistance]:
        share = self.variance_threshold or 0.0
        return {
            number: fit_positions(level, self.distance, self.reduction, share, own_means=self.position_means)
            for number, level in zip(self.levels, known, strict=True)
            if level.keeps_positions
        }

    # Section III-C: distances, and the sum predictor, their mean over the levels

    @torch.inference_mode()
    def _distances(self, pooled: Sequence[torch.Tensor], models: Sequence[LevelModel]) -> torch.Tensor:
        """Return the distances (levels, n), float64, of each level's pooled features (n, d)."""
        return torch.stack([model(level) for level, model in zip(pooled, models, strict=True)])

    @torch.inference_mode()
    def _maps(self, features: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        """Return the anomaly maps (levels, n, *size), or of all levels together (1, n, *size)."""
        maps = []
        for level, features_of_level in zip(self.levels, features, strict=True):
            if model := self.map_models_.get(level):
                rows = features_of_level.permute(0, 2, 3, 1)  # (n, h, w, d)
                maps.append(smooth_maps(model.on_grid_of(features_of_level)(rows), size))
        stacked = torch.stack(maps)
        return stacked if self.level_maps else stacked.mean(dim=0, keepdim=True)

    def _scores(self, by_level: torch.Tensor, level_maps: torch.Tensor | None) -> Scores:
        """Return the scores of distances (levels, n) and maps (levels with maps or 1, n, h, w)."""
        own: dict[int, np.ndarray] = {}
        maps = None
        if level_maps is not None:
            maps = level_maps.mean(dim=0).numpy()
            own = dict(zip(self.map_models_, level_maps.numpy(), strict=True)) if self.level_maps else {}
        parts = {
            f"level_{level}": Scores(distances.float().numpy(), own.get(level))
            for level, distances in zip(self.levels, by_level, strict=True)
        }
        return Scores(by_level.mean(dim=0).float().numpy(), maps, parts)

    # The threshold, from images that were not fitted on (not in the paper)

    def _held_out_scores(self, seen: GaussianStatistics) -> Iterator[np.ndarray]:
        """Yield the scores of each held-out fold, by models that were not fitted on it."""
        for fold, pooled in seen.held_out():
            models = self.models_
            if self.fold is None:
                known = seen.fitted(without=fold)
                if known[0].images < 2:
                    continue
                models = self._fit_pooled(known)
            yield self._distances(pooled, models).mean(dim=0).float().cpu().numpy()


def require_augmentations(kinds: Sequence[str]) -> None:
    """Raise `ParameterError` when not all the kinds are of `AUGMENTATIONS`."""
    if unknown := [kind for kind in kinds if kind not in AUGMENTATIONS]:
        raise ParameterError(f"--augmentations {unknown[0]}: use some of {', '.join(AUGMENTATIONS)}")


def _share(true: np.ndarray) -> float:
    return float(true.mean()) if len(true) else math.nan


def _fields(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
