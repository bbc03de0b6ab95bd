"""Pixel metrics from counts of scores: of test sets that may not be pooled, their counts may be."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly_lib.evaluation.metrics import Floats, PixelMetrics, Ranking, masked_pixels

# Bits of a float32 score that are dropped: 11 of its 23 bits of mantissa stay, so that scores which differ by
# less than 1 in 2048 may be counted as one.
_DROPPED = 12
FPR_LIMIT = 0.3


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """How often every score occurs, rounded down to 12 significant bits.

    Attributes
    ----------
    bins
        Distinct rounded scores (k,) as the leading bits of their float32, int64, ascending.
    counts
        (k, 3) int64: of each, the normal pixels of good images, those of defective images, and the anomalous
        pixels.
    overlap
        (k,) float64: the sum over the anomalous pixels of one over the size of their region.
    """

    bins: NDArray[np.int64]
    counts: NDArray[np.int64]
    overlap: NDArray[np.float64]

    @classmethod
    def of(cls, maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> "PixelCounts":
        """Count the scores of anomaly maps (n, h, w), not negative, with masks (n, h, w)."""
        defective = masks.any(axis=(1, 2))
        normal = maps[defective][~masks[defective]]
        anomalous: Floats = np.zeros(0, np.float32)
        weights: Floats = np.zeros(0)
        if defective.any():
            anomalous, weights = masked_pixels(maps, masks.view(np.uint8), np.flatnonzero(defective))
        kinds = [_bins(scores) for scores in (maps[~defective].ravel(), normal, anomalous)]
        bins, places = np.unique(np.concatenate(kinds), return_inverse=True)
        edges = np.cumsum([0, *(len(kind) for kind in kinds)])
        columns = [
            np.bincount(places[start:stop], minlength=len(bins)) for start, stop in itertools.pairwise(edges)
        ]
        overlap = np.bincount(places[edges[-2] :], weights, minlength=len(bins))
        return cls(bins, np.stack(columns, axis=1).astype(np.int64), overlap.astype(np.float64))

    @classmethod
    def merged(cls, parts: Sequence["PixelCounts"]) -> "PixelCounts":
        """Return the counts of several test sets, at least one, as of one."""
        bins, places = np.unique(np.concatenate([part.bins for part in parts]), return_inverse=True)
        counts = np.zeros((len(bins), 3), np.int64)
        np.add.at(counts, places, np.concatenate([part.counts for part in parts]))
        overlap = np.bincount(places, np.concatenate([part.overlap for part in parts]), minlength=len(bins))
        return cls(bins, counts, overlap.astype(np.float64))

    def metrics(self) -> PixelMetrics:
        """Return the metrics, as `pixel_metrics` but for the rounding: nan without pixels of both kinds."""
        good, normal, anomalous = self.counts.T
        if not anomalous.any() or not (good.any() or normal.any()):
            return PixelMetrics(*[np.nan] * 6)
        scores = _scores(self.bins)
        hit = anomalous > 0
        overlap = np.cumsum(self.overlap[hit][::-1])
        within = Ranking.of(scores[hit], anomalous[hit]).against_counts(scores, normal)
        return PixelMetrics.of(within, within.against_counts(scores, good), overlap, FPR_LIMIT)


def _bins(scores: Floats) -> NDArray[np.int64]:
    """Return the leading bits of scores (n,): of numbers that are not negative, they are in their order."""
    positive = np.ascontiguousarray(scores, np.float32) + np.float32(0)  # no negative zero
    return (positive.view(np.uint32) >> _DROPPED).astype(np.int64)


def _scores(bins: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the rounded scores (n,)."""
    scores: NDArray[np.float32] = (bins.astype(np.uint32) << _DROPPED).view(np.float32)
    return scores
