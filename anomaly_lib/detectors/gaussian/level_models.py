"""Distances from the normal features of one level: Mahalanobis and its simpler relatives, and an SVM.

Mahalanobis, L2 and the standardised Euclidean distance (SED) of features x, in all of their dimensions or in
some principal components, are |A (x - m)|, each with its own matrix A. L2 and SED are divided by the square
root of the number of dimensions, as in the authors' code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F

from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.gaussian.level_statistics import LevelStatistics
from anomaly_lib.detectors.gaussian.moments import Moments, shrunk, whitening
from anomaly_lib.errors import DataError, ModelFileError

# Features that vary by less than a millionth of their length vary by rounding alone.
SAME = 1e-12

Distance = Literal["mahalanobis", "l2", "sed", "ocsvm"]
Reduction = Literal["none", "pca", "npca"]


class LevelModel(Protocol):
    """What scores the features of one level; `tensors` are its fields, as they are saved."""

    @property
    def features(self) -> int:
        """How many features there are."""

    @property
    def dimensions(self) -> int:
        """How many dimensions or components count."""

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return the distances (...) of features (..., d)."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the fields by name, as they are saved."""


@dataclass(frozen=True)
class LinearDistance:
    """|A (x - m)|, with `mean` (d,) or (h, w, d) and `matrix` (k, d), or (d,) when it is diagonal."""

    mean: torch.Tensor
    matrix: torch.Tensor

    names: ClassVar[tuple[str, ...]] = ("mean", "matrix")

    @property
    def consistent(self) -> bool:
        """Whether the fields fit each other."""
        shapes = self.mean.ndim in (1, 3) and self.matrix.ndim in (1, 2)
        return (
            shapes
            and min(self.mean.numel(), self.matrix.numel()) > 0
            and self.matrix.shape[-1] == self.features
        )

    @property
    def features(self) -> int:
        """How many features there are."""
        return self.mean.shape[-1]

    @property
    def dimensions(self) -> int:
        """How many dimensions or components count."""
        return len(self.matrix)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return the distances (...) of features (..., d)."""
        centred = features.to(self.mean.dtype) - self.mean
        projected = centred * self.matrix if self.matrix.ndim == 1 else centred @ self.matrix.T
        distances: torch.Tensor = projected.norm(dim=-1)
        return distances

    def on_grid_of(self, maps: torch.Tensor) -> "LinearDistance":
        """Return this distance for `maps` (n, d, h, w), of images of another size than those fitted on."""
        if self.mean.ndim == 1 or self.mean.shape[:2] == maps.shape[2:]:
            return self
        means = self.mean.permute(2, 0, 1)[None]  # (1, d, h, w)
        means = F.interpolate(means, size=maps.shape[2:], mode="bilinear", align_corners=False)
        return LinearDistance(means[0].permute(1, 2, 0), self.matrix)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the fields by name."""
        return {name: getattr(self, name) for name in self.names}


@dataclass(frozen=True)
class SupportVectors:
    """A one-class SVM with a radial kernel: what it lacks of its decision boundary, in its own unit.

    Minus scikit-learn's ``OneClassSVM(kernel="rbf", gamma="scale").decision_function``, of `vectors` (m, d),
    `coefficients` (m,), and `kernel` (2,): gamma and the intercept. With `components` (d, D) the features are
    reduced to them first.
    """

    vectors: torch.Tensor
    coefficients: torch.Tensor
    kernel: torch.Tensor
    components: torch.Tensor
    mean: torch.Tensor

    names: ClassVar[tuple[str, ...]] = ("vectors", "coefficients", "kernel", "components", "mean")

    @property
    def consistent(self) -> bool:
        """Whether the fields fit each other."""
        if self.vectors.ndim != 2 or self.mean.ndim != 1 or self.kernel.shape != (2,) or self.kernel[0] <= 0:
            return False
        reduced_to = len(self.components) if len(self.components) else self.features
        components = not len(self.components) or self.components.shape == (reduced_to, self.features)
        vectors = len(self.vectors) > 0 and self.vectors.shape == (len(self.coefficients), reduced_to)
        return components and vectors and self.coefficients.ndim == 1

    @property
    def features(self) -> int:
        """How many features there are."""
        return self.mean.shape[-1]

    @property
    def dimensions(self) -> int:
        """How many dimensions or components count."""
        return self.vectors.shape[1]

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return the scores (n,) of features (n, d)."""
        rows = reduced(features.double(), self.mean, self.components)
        gamma, intercept = self.kernel
        squares = torch.cdist(rows, self.vectors, compute_mode="donot_use_mm_for_euclid_dist").square()
        inside: torch.Tensor = torch.exp(-gamma * squares) @ self.coefficients + intercept
        return -inside

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the fields by name."""
        return {name: getattr(self, name) for name in self.names}


def level_tensors(kind: str, models: Mapping[int, LevelModel]) -> dict[str, torch.Tensor]:
    """Return the fields of the models by level, under the names ``<kind>.<level>.<field>``."""
    return {
        f"{kind}.{level}.{name}": tensor
        for level, model in models.items()
        for name, tensor in model.tensors().items()
    }


def level_models(
    kind: str, levels: Sequence[int], tensors: SavedTensors, device: torch.device, dtype: torch.dtype
) -> dict[int, Any]:
    """Return by level the models whose fields `level_tensors` named; of some levels there may be none.

    All their tensors are of the type `dtype`.

    Raises
    ------
    ModelFileError
        When the fields are not those of one model.
    """
    models: dict[int, LevelModel] = {}
    for level in levels:
        prefix = f"{kind}.{level}."
        names = [name for name in tensors.names() if name.startswith(prefix)]
        fields = {name.removeprefix(prefix): tensors.take_any(name, dtype).to(device) for name in names}
        if fields:
            model: type[LinearDistance | SupportVectors] = (
                SupportVectors if "vectors" in fields else LinearDistance
            )
            if set(fields) != set(model.names) or not (restored := model(**fields)).consistent:
                raise ModelFileError(f"the model of level {level} is damaged: train it again")
            models[level] = restored
    return models


def require_form(
    model: LevelModel, features: int, distance: Distance, reduction: Reduction, own_means: bool
) -> None:
    """Raise `ModelFileError` where a model is not for so many features, or not what these parameters make.

    `own_means`: every position has a mean of its own.
    """
    fits = model.features == features and isinstance(model, SupportVectors) == (distance == "ocsvm")
    if isinstance(model, LinearDistance):
        diagonal = reduction == "none" and distance != "mahalanobis"
        fits &= model.matrix.ndim == (1 if diagonal else 2) and model.mean.ndim == (3 if own_means else 1)
        # Directions in which few images do not vary have no row.
        fits &= model.dimensions == features if diagonal else 1 <= model.dimensions <= features
    if isinstance(model, SupportVectors):
        fits &= bool(len(model.components)) == (reduction != "none")
    if not fits:
        raise ModelFileError(
            "the Gaussian of a level is not what the model's parameters make: train it again"
        )


def fit_pooled(
    statistics: LevelStatistics, distance: Distance, reduction: Reduction, variance_threshold: float
) -> LevelModel:
    """Return the model of the pooled features of the images, in float64.

    Raises
    ------
    DataError
        When the features do not vary at all.
    """
    moments, components = statistics.pooled, torch.empty(0, dtype=torch.float64)
    mean = moments.mean
    if moments.covariance.trace() <= SAME * mean.square().sum():
        raise DataError("the images are all the same to the network: give images of different good parts")
    components = components.to(mean.device)
    if reduction != "none":
        _, sizes, directions = torch.linalg.svd(statistics.rows - mean, full_matrices=False)
        components = select_components(sizes.square(), directions, reduction, variance_threshold)
        moments = Moments()
        moments.add(reduced(statistics.rows, mean, components))
    if distance == "ocsvm":
        return _fit_ocsvm(reduced(statistics.rows, mean, components), mean, components)
    covariance = moments.covariance
    if distance == "sed":
        covariance = covariance * (moments.count / max(1, moments.count - 1))
    return LinearDistance(mean, _matrix(distance, covariance, moments.shrinkage, components))


def fit_positions(
    statistics: LevelStatistics,
    distance: Distance,
    reduction: Reduction,
    variance_threshold: float,
    *,
    own_means: bool,
) -> LinearDistance:
    """Return the model of the features at single positions, in float32: one matrix for all of them.

    With `own_means` every position has its own mean, else all share one. The shrinkage is that of all
    positions about their common mean: about the positions' own it would take a matrix a position.
    """
    if own_means:
        mean, covariance = statistics.position_means(), statistics.spread_about_position_means()
    else:
        mean, covariance = statistics.positions.mean, statistics.positions.covariance
    components = torch.empty(0, dtype=torch.float64, device=mean.device)
    if reduction != "none":
        variances, directions = torch.linalg.eigh(covariance)
        components = select_components(
            variances.flip(0).clamp(min=0), directions.T.flip(0), reduction, variance_threshold
        )
        covariance = components @ covariance @ components.T
    matrix = _matrix(distance, covariance, statistics.positions.shrinkage, components)
    return LinearDistance(mean.float().contiguous(), matrix.float())


def select_components(
    variances: torch.Tensor, directions: torch.Tensor, reduction: Reduction, share: float
) -> torch.Tensor:
    """Return the directions (k, d) to keep, of all (m, d) with falling `variances` (m,).

    With the first component at which the explained share of variance exceeds `share` at index i, PCA keeps
    the components up to i, and NPCA those from i - 1 on, as the authors' code does. Components without
    variance, up to rounding, point anywhere and are left out.
    """
    cutoff = directions.shape[1] * torch.finfo(variances.dtype).eps * variances.max()
    rank = int((variances > cutoff).sum())
    explained = variances[:rank].cumsum(0) / variances[:rank].sum()
    beyond = (explained > share).nonzero()
    last = int(beyond[0]) if len(beyond) else rank - 1
    return directions[: last + 1] if reduction == "pca" else directions[max(0, last - 1) : rank]


def reduced(rows: torch.Tensor, mean: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
    """Return the rows (n, k) in the components (k, d) about the mean, or as they are when there are none."""
    projected: torch.Tensor = (rows - mean) @ components.T if len(components) else rows
    return projected


def _matrix(
    distance: Distance, covariance: torch.Tensor, shrinkage: float, components: torch.Tensor
) -> torch.Tensor:
    """Return the A (k, d) of the distance, or (d,) when it is diagonal, for a `covariance` in components."""
    variances = covariance.diagonal()
    if distance == "mahalanobis":
        matrix = whitening(shrunk(covariance, shrinkage))
        return matrix @ components if len(components) else matrix
    scale: torch.Tensor = torch.ones_like(variances)
    if distance == "sed":  # a dimension that never varied, up to rounding, has no unit and does not count
        varies = variances > len(scale) * torch.finfo(scale.dtype).eps * variances.max()
        scale = torch.where(varies, variances, torch.inf).rsqrt()
    scale = scale / len(scale) ** 0.5
    return scale[:, None] * components if len(components) else scale


def _fit_ocsvm(rows: torch.Tensor, mean: torch.Tensor, components: torch.Tensor) -> SupportVectors:
    from sklearn.svm import OneClassSVM

    machine = OneClassSVM(kernel="rbf", gamma="scale").fit(rows.cpu().numpy())
    kernel = [float(machine._gamma), float(machine.intercept_[0])]
    return SupportVectors(
        torch.from_numpy(machine.support_vectors_).to(mean),
        torch.from_numpy(machine.dual_coef_[0]).to(mean),
        torch.tensor(kernel, dtype=torch.float64, device=mean.device),
        components,
        mean,
    )
