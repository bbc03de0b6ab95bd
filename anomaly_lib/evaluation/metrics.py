"""How well scores and anomaly maps tell anomalous from normal: arrays in, numbers out.

One rule turns scores into decisions, here and in `thresholds`: `score >= threshold` is anomalous.
Labels and masks are boolean or integer; nonzero is anomalous. Metrics are exact, never binned.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve of scores (n,) with labels (n,), ties counted half.

    It is nan when either class is missing. Raises ValueError for unequal shapes and non-finite scores,
    as every function of this module does.

    Examples
    --------
    >>> auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])  # 0.35 is above one of two good, 0.8 above both
    0.75
    """
    return rank(scores, labels).auroc


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Sum of precision times gain in recall over the distinct scores (n,); nan without positives.

    The definition is scikit-learn's: no interpolation between thresholds.

    Examples
    --------
    >>> average_precision([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1])  # the mean of 1 / 1 and 2 / 3
    0.8333333333333333
    """
    return rank(scores, labels).average_precision


def f1_max(scores: ArrayLike, labels: ArrayLike) -> float:
    """Highest F1 that any threshold on scores (n,) reaches; nan without positives.

    Examples
    --------
    >>> f1_max([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1])  # at 0.3: two hits and one false alarm
    0.8
    """
    return rank(scores, labels).f1_max


def f1(scores: ArrayLike, labels: ArrayLike, threshold: float) -> float:
    """F1 of the decisions `scores >= threshold`; nan without positives or for a nan threshold.

    Examples
    --------
    >>> f1([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1], threshold=0.4)  # one hit, one false alarm, one missed
    0.5
    """
    hits, alarms, positives, _ = _decide(scores, labels, threshold)
    return 2 * hits / (hits + alarms + positives) if positives else np.nan


def balanced_accuracy(scores: ArrayLike, labels: ArrayLike, threshold: float) -> float:
    """Mean of sensitivity and specificity of `scores >= threshold`.

    It is nan when either class is missing or the threshold is nan.

    Examples
    --------
    >>> balanced_accuracy([0.1, 0.2, 0.3, 0.8], [0, 0, 0, 1], threshold=0.3)  # all of one, two of three
    0.8333333333333333
    """
    hits, alarms, positives, negatives = _decide(scores, labels, threshold)
    if not (positives and negatives):
        return np.nan
    return (hits / positives + (negatives - alarms) / negatives) / 2


@dataclass(frozen=True)
class PixelMetrics:
    """Metrics over all pixels of a test set.

    Attributes
    ----------
    full_pixel_auroc
        AUROC over the pixels of all images.
    anomaly_pixel_auroc
        AUROC over the pixels of the images whose mask is not empty.
    aupro
        Area under the per-region overlap, normalised to [0, 1].
    average_precision, f1_max
        Over the pixels of all images.
    f1_threshold
        The threshold that reaches `f1_max`, the highest of several.
    """

    full_pixel_auroc: float
    anomaly_pixel_auroc: float
    aupro: float
    average_precision: float
    f1_max: float
    f1_threshold: float

    @classmethod
    def of(cls, within: "Ranking", full: "Ranking", overlap: Floats, fpr_limit: float) -> "PixelMetrics":
        """Return them from rankings among the pixels of defective images, and of all.

        `overlap` (k,) is the sum over the regions of the share that is found at each threshold.
        """
        return cls(
            full_pixel_auroc=full.auroc,
            anomaly_pixel_auroc=within.auroc,
            aupro=full.area_under(overlap / overlap[-1], fpr_limit),
            average_precision=full.average_precision,
            f1_max=full.f1_max,
            f1_threshold=full.f1_threshold,
        )


def pixel_metrics(maps: ArrayLike, masks: ArrayLike, *, fpr_limit: float = 0.3) -> PixelMetrics:
    """Compare anomaly maps (n, h, w) with masks (n, h, w).

    AUPRO is the mean over all 8-connected regions of the share of a region that is found, integrated over
    the false-positive rate of all unmasked pixels from 0 to `fpr_limit`. All metrics are nan when no pixel
    or every pixel is masked. Maps may be of any precision and are compared in it. Working memory stays
    under one copy of the maps plus 180 bytes a masked pixel.

    Raises
    ------
    ValueError
        When the shapes differ or are not (n, h, w), a score is not finite, the masks are neither boolean
        nor integer, or `fpr_limit` is not in (0, 1].

    References
    ----------
    Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.1.

    Examples
    --------
    >>> masks = np.zeros((2, 4, 4), bool)  # of a defective image and a good one
    >>> masks[0, :2, :2] = True
    >>> pixels = pixel_metrics(masks * 0.9, masks)
    >>> pixels.full_pixel_auroc, pixels.aupro, pixels.f1_threshold
    (1.0, 1.0, 0.9)
    """
    maps, masks = _checked(maps, masks, names=("maps", "masks"))
    if maps.ndim != 3:
        raise ValueError(f"maps and masks must be of shape (n, h, w), not {maps.shape}")
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit must be in (0, 1], not {fpr_limit}")
    is_defective = np.array([mask.any() for mask in masks], dtype=bool)
    defective, good = np.flatnonzero(is_defective), np.flatnonzero(~is_defective)
    if not defective.size or masks.all():
        return PixelMetrics(*[np.nan] * 6)
    scores, weights = masked_pixels(maps, masks, defective)
    thresholds, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    overlap: Floats = np.cumsum(np.bincount(places, weights)[::-1], dtype=np.float64)
    # Good images come second and alone: neither sort is done twice, and only one copy lives at a time.
    within = Ranking.of(thresholds, counts).against(_unmasked_pixels(maps, masks, defective))
    full = within.against(_unmasked_pixels(maps, masks, good))
    return PixelMetrics.of(within, full, overlap, fpr_limit)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where anomalous scores stand among normal ones: all that a metric over thresholds needs.

    One entry per distinct anomalous score, highest first, each read as a threshold. The others are of no
    interest: from one anomalous score down to the next, a lower threshold only adds false alarms.

    Attributes
    ----------
    thresholds
        Distinct anomalous scores (k,), descending.
    hits
        Anomalous scores at or above each threshold (k,).
    alarms, alarms_above
        Normal scores at or above, and strictly above, each threshold (k,).
    negatives
        How many normal scores there are.
    """

    thresholds: Floats
    hits: Integers
    alarms: Integers
    alarms_above: Integers
    negatives: int

    @classmethod
    def of(cls, thresholds: Floats, counts: Integers) -> "Ranking":
        """Rank distinct anomalous scores (k,), ascending, and how often each occurs, among nothing yet."""
        nothing = np.zeros_like(counts)
        return cls(thresholds[::-1], np.cumsum(counts[::-1]), nothing, nothing, negatives=0)

    def against(self, normal: Floats) -> "Ranking":
        """Rank among more normal scores (m,), which must be sorted ascending."""
        alarms = normal.size - np.searchsorted(normal, self.thresholds, side="left")
        alarms_above = normal.size - np.searchsorted(normal, self.thresholds, side="right")
        return self._against(alarms, alarms_above, normal.size)

    def against_counts(self, normal: Floats, counts: Integers) -> "Ranking":
        """Rank among more distinct normal scores (m,), ascending, that occur `counts` (m,) times."""
        below = np.concatenate([[0], np.cumsum(counts)])  # how many there are before each
        alarms = below[-1] - below[np.searchsorted(normal, self.thresholds, side="left")]
        alarms_above = below[-1] - below[np.searchsorted(normal, self.thresholds, side="right")]
        return self._against(alarms, alarms_above, int(below[-1]))

    def _against(self, alarms: Integers, alarms_above: Integers, negatives: int) -> "Ranking":
        return replace(
            self,
            alarms=self.alarms + alarms,
            alarms_above=self.alarms_above + alarms_above,
            negatives=self.negatives + negatives,
        )

    @property
    def positives(self) -> int:
        """How many anomalous scores there are."""
        return int(self.hits[-1]) if self.hits.size else 0

    @property
    def auroc(self) -> float:
        """Area under the ROC curve, ties counted half; nan when either class is missing."""
        if not (self.positives and self.negatives):
            return np.nan
        return self.area_under(self.hits / self.positives, 1.0)

    @property
    def average_precision(self) -> float:
        """Precision at each threshold, weighted by the gain in recall; nan without positives."""
        if not self.positives:
            return np.nan
        precision = self.hits / (self.hits + self.alarms)
        return float(np.sum(np.diff(self.hits, prepend=0) * precision) / self.positives)

    @property
    def f1_max(self) -> float:
        """Highest F1 of all thresholds; nan without positives."""
        return float(self._f1().max()) if self.positives else np.nan

    @property
    def f1_threshold(self) -> float:
        """Highest of the thresholds that reach `f1_max`; nan without positives."""
        return float(self.thresholds[self._f1().argmax()]) if self.positives else np.nan

    def _f1(self) -> Floats:
        return 2 * self.hits / (self.hits + self.alarms + self.positives)  # (k,)

    def area_under(self, heights: Floats, limit: float) -> float:
        """Mean height, over false-positive rates 0 to `limit`, of the curve through heights (k,).

        Each height holds from its threshold on, so the curve is level between anomalous scores, and a
        diagonal where normal scores tie with one.
        """
        corners = np.column_stack((self.alarms_above, self.alarms)).ravel()  # (2 k,)
        x = np.concatenate(([0], corners, [self.negatives])) / self.negatives
        y = np.repeat(np.append(0.0, heights), 2)
        end = np.searchsorted(x, limit)  # x[end - 1] < limit <= x[end], for x begins with 0 and ends with 1
        rise = (y[end] - y[end - 1]) / (x[end] - x[end - 1])
        x[end], y[end] = limit, y[end - 1] + rise * (limit - x[end - 1])
        return float(np.trapezoid(y[: end + 1], x[: end + 1]) / limit)


def rank(scores: ArrayLike, labels: ArrayLike) -> Ranking:
    """Rank the scores labelled anomalous among the others; scores and labels are of one shape."""
    scores, labels = _checked(scores, labels)
    anomalous = labels != 0
    return Ranking.of(*np.unique(scores[anomalous], return_counts=True)).against(np.sort(scores[~anomalous]))


def _checked(
    scores: ArrayLike, labels: ArrayLike, names: tuple[str, str] = ("scores", "labels")
) -> tuple[Floats, Integers]:
    """Both as arrays of one shape, the first finite, the second boolean or integer."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape != labels.shape:
        raise ValueError(f"{names[0]} {scores.shape} and {names[1]} {labels.shape} differ in shape")
    if labels.dtype.kind not in "biu":
        raise ValueError(f"{names[1]} must be boolean or integer, not {labels.dtype}: threshold them first")
    # One image at a time, because the flags of all pixels at once are a quarter of the maps again.
    if not all(np.isfinite(part).all() for part in np.atleast_2d(scores)):
        raise ValueError(f"{names[0]} must be finite, but some are NaN or infinite")
    return scores, labels


def _decide(scores: ArrayLike, labels: ArrayLike, threshold: float) -> tuple[float, float, int, int]:
    """Count hits, false alarms, positives and negatives; a nan threshold has nan hits and alarms."""
    scores, labels = _checked(scores, labels)
    anomalous = labels != 0
    positives = int(np.count_nonzero(anomalous))
    if np.isnan(threshold):
        return np.nan, np.nan, positives, labels.size - positives
    # A Python float would be rounded to the precision of the scores; a numpy float64 is compared as it is.
    alarms = scores >= np.float64(threshold)
    hits = int(np.count_nonzero(alarms & anomalous))
    return hits, int(np.count_nonzero(alarms)) - hits, positives, labels.size - positives


def masked_pixels(maps: Floats, masks: Integers, images: Integers) -> tuple[Floats, Floats]:
    """Scores (p,) of the masked pixels of these images, each with weight (p,) one over its region's size."""
    scores, weights = [], []
    for i in images:
        mask = masks[i] != 0
        regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))  # (h, w); diagonal neighbours touch
        region = regions[mask]
        scores.append(maps[i][mask])
        weights.append(1 / np.bincount(region)[region])
    return np.concatenate(scores), np.concatenate(weights)


def _unmasked_pixels(maps: Floats, masks: Integers, images: Integers) -> Floats:
    """Scores (m,) of the other pixels of these images, sorted ascending."""
    sizes = [masks[i].size - np.count_nonzero(masks[i]) for i in images]
    pixels = np.empty(sum(sizes), maps.dtype)
    end = 0
    for i, size in zip(images, sizes, strict=True):
        end += size
        pixels[end - size : end] = maps[i][masks[i] == 0]
    pixels.sort()
    return pixels
