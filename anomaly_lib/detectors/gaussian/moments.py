"""Mean, covariance and Ledoit-Wolf shrinkage of a stream of vectors, in float64 and in constant memory.

Kept are the count, the mean and three sums over the vectors z about their mean: the outer products z z', and
|z|^2 z and |z|^4, which the shrinkage needs. They can be moved to another mean exactly, so that two sets of
moments can be merged (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances", 1979). Sums about the origin would lose half the digits of features with a large mean.
"""

from typing import Self

import torch

from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.errors import ModelFileError

# Rows are collected until there are as many: one large product instead of many small ones.
CHUNK = 1024

# Columns of a product of vectors with themselves that are computed at a time.
BLOCK = 256


class Moments:
    """Moments of vectors that come in portions.

    Attributes
    ----------
    count
        How many vectors there were.
    """

    _mean: torch.Tensor  # (d,)
    _scatter: torch.Tensor  # (d, d), the sum of z z'
    _cubic: torch.Tensor  # (d,), the sum of |z|^2 z
    _quartic: torch.Tensor  # (), the sum of |z|^4

    def __init__(self) -> None:
        self.count = 0
        self._pending: list[torch.Tensor] = []

    def add(self, rows: torch.Tensor) -> None:
        """Take in the vectors (n, d), of any float type."""
        if len(rows):
            self.count += len(rows)
            self._pending.append(rows.double())
            if sum(map(len, self._pending)) >= CHUNK:
                self._settle()

    def merge(self, other: "Moments") -> None:
        """Take in what `other` has seen, as if its vectors had been added here."""
        other._settle()
        if other.count:
            self._settle()
            before, self.count = self.count, self.count + other.count
            self._join(before, other)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the moments of at least one vector, by name."""
        self._settle()
        return {
            "count": torch.tensor(self.count),
            "mean": self._mean.clone(),  # the fitted model has it too, and files do not share tensors
            "scatter": self._scatter,
            "cubic": self._cubic,
            "quartic": self._quartic,
        }

    @property
    def mean(self) -> torch.Tensor:
        """The mean (d,)."""
        self._settle()
        return self._mean

    @property
    def covariance(self) -> torch.Tensor:
        """The covariance (d, d), the sum divided by the count."""
        self._settle()
        return self._scatter / self.count

    @property
    def shrinkage(self) -> float:
        """The share of the identity in Ledoit and Wolf's covariance, in [0, 1].

        Equation 14 of "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
        Multivariate Analysis 2004: the variance of the sample covariance over its distance to the scaled
        identity. The same number as scikit-learn's `ledoit_wolf_shrinkage`.
        """
        self._settle()
        dimensions = len(self._mean)
        if dimensions == 1:
            return 0.0
        covariance = self._scatter / self.count
        squared = float(covariance.square().sum())
        distance = squared - float(covariance.trace()) ** 2 / dimensions
        variance = (float(self._quartic) / self.count - squared) / self.count
        variance = min(max(variance, 0.0), distance)
        return variance / distance if variance > 0 else 0.0

    def _settle(self) -> None:
        """Work the collected rows in."""
        if not self._pending:
            return
        rows, self._pending = torch.cat(self._pending), []
        before = self.count - len(rows)
        self._join(before, Moments()._set(rows))

    def _join(self, before: int, other: "Moments") -> None:
        """Merge the moments of `before` settled vectors with those of the settled `other`."""
        if before == 0:
            self._mean, self._scatter = other._mean.clone(), other._scatter.clone()
            self._cubic, self._quartic = other._cubic.clone(), other._quartic.clone()
            return
        step = other._mean - self._mean
        share = other.count / (before + other.count)
        cubic, quartic = self._moved(before, -share * step)
        other_cubic, other_quartic = other._moved(other.count, (1 - share) * step)
        self._cubic, self._quartic = cubic + other_cubic, quartic + other_quartic
        self._scatter.add_(other._scatter).addr_(step, step, alpha=before * share)
        self._mean = self._mean + share * step

    def _moved(self, count: int, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums of |z + s|^2 (z + s) and of |z + s|^4, where the z sum up to nothing."""
        trace, product = self._scatter.trace(), self._scatter @ shift
        length = shift @ shift
        cubic = self._cubic + trace * shift + 2 * product + count * length * shift
        quartic = (
            self._quartic
            + 4 * (self._cubic @ shift)
            + 4 * (shift @ product)
            + 2 * trace * length
            + count * length.square()
        )
        return cubic, quartic

    def _set(self, rows: torch.Tensor) -> Self:
        """Become the moments of `rows` (n, d) alone."""
        self.count = len(rows)
        self._mean = rows.mean(dim=0)
        centred = rows - self._mean
        squares = centred.square().sum(dim=1)  # (n,)
        self._scatter = _gram(centred)
        self._cubic, self._quartic = squares @ centred, squares @ squares
        return self


def _gram(rows: torch.Tensor) -> torch.Tensor:
    """Return rows' rows (d, d), computing only half of it where that saves time."""
    width = rows.shape[1]
    if width < 2 * BLOCK:
        return rows.T @ rows
    gram = rows.new_empty(width, width)
    for first in range(0, width, BLOCK):
        gram[first : first + BLOCK, first:] = rows[:, first : first + BLOCK].T @ rows[:, first:]
        gram[first + BLOCK :, first : first + BLOCK] = gram[first : first + BLOCK, first + BLOCK :].T
    return gram


def shrunk(covariance: torch.Tensor, shrinkage: float) -> torch.Tensor:
    """Return (1 - shrinkage) `covariance` (d, d) + shrinkage * its mean variance * the identity."""
    result: torch.Tensor = (1 - shrinkage) * covariance
    result.diagonal().add_(shrinkage * covariance.trace() / len(covariance))
    return result


def whitening(covariance: torch.Tensor) -> torch.Tensor:
    """Return W (k, d) with W' W the inverse of `covariance` (d, d), so that |W z| is Mahalanobis' distance.

    Of a singular covariance it is the pseudo-inverse: directions without variance, up to rounding, do not
    count, as in scikit-learn.
    """
    cutoff = len(covariance) * torch.finfo(covariance.dtype).eps
    factor, failed = torch.linalg.cholesky_ex(covariance)
    pivots = factor.diagonal().square()
    # The pivots bound the eigenvalues well enough to tell when an inverse would be made of rounding errors.
    if not failed and pivots.min() > 1e3 * cutoff * pivots.max():
        identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        inverse: torch.Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
        return inverse
    variances, directions = torch.linalg.eigh(covariance)
    varying = variances > cutoff * variances.max()
    whitened: torch.Tensor = (directions[:, varying] / variances[varying].sqrt()).T
    return whitened


def restored_moments(saved: SavedTensors, prefix: str, columns: int) -> Moments:
    """Return the moments of vectors (`columns`,) that `Moments.tensors` returned, at names with a prefix."""
    moments = Moments()
    moments.count = int(saved.take(f"{prefix}count", dtype=torch.int64))
    if moments.count < 1:
        raise ModelFileError("the model has statistics of no images: train it again")
    moments._mean = saved.take(f"{prefix}mean", columns, dtype=torch.float64)
    moments._scatter = saved.take(f"{prefix}scatter", columns, columns, dtype=torch.float64)
    moments._cubic = saved.take(f"{prefix}cubic", columns, dtype=torch.float64)
    moments._quartic = saved.take(f"{prefix}quartic", dtype=torch.float64)
    return moments
