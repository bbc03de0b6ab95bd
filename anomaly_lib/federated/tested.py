"""What a site says of its test images: scores as numbers, and how often each occurs among the pixels."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from anomaly_lib.datasets import Category
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.errors import ModelFileError
from anomaly_lib.evaluation import metrics
from anomaly_lib.evaluation.measures import RESULT_COLUMNS
from anomaly_lib.evaluation.pixel_counts import PixelCounts
from anomaly_lib.evaluation.predictions import Scores

GOOD, ANOMALOUS, UNKNOWN = 0, 1, -1
_SCORES, _LABELS, _PIXELS, _PART = "tested.scores", "tested.labels", "pixels.", "part."


class TestedImages:
    """The scores of a test set, or of those of several sites.

    Attributes
    ----------
    scores, labels
        (n,) float32, and (n,) int64: 1 of a defect, 0 of a good part, -1 where nobody knows.
    pixels
        Counts of the pixels' scores; ``None`` when there are no maps, or no masks.
    parts
        What the scores are combined from, by name, likewise.
    """

    __test__ = False

    def __init__(
        self,
        scores: np.ndarray,
        labels: np.ndarray,
        pixels: PixelCounts | None,
        parts: Mapping[str, "TestedImages"],
    ) -> None:
        self.scores, self.labels, self.pixels, self.parts = scores, labels, pixels, parts

    @classmethod
    def of(cls, scores: Scores, category: Category, transform: Transform, *, pixels: bool) -> "TestedImages":
        """Return what is said of a category's test images, with or without their `pixels`."""
        labels = np.where(category.has_label, category.labels.astype(np.int64), UNKNOWN)
        known = category.has_mask & category.has_label
        masks = category.masks(transform)[known] if pixels and known.any() else None

        def one(part: Scores) -> "TestedImages":
            counted = None if masks is None or part.maps is None else PixelCounts.of(part.maps[known], masks)
            return cls(part.image, labels, counted, {name: one(inner) for name, inner in part.parts.items()})

        return one(scores)

    @classmethod
    def pooled(cls, sites: "Sequence[TestedImages]") -> "TestedImages":
        """Return those of several sites, at least one."""
        counts = [site.pixels for site in sites if site.pixels is not None]
        return cls(
            np.concatenate([site.scores for site in sites]),
            np.concatenate([site.labels for site in sites]),
            PixelCounts.merged(counts) if counts else None,
            {name: cls.pooled([site.parts[name] for site in sites]) for name in sites[0].parts},
        )

    def row(self, threshold: float) -> dict[str, float]:
        """Return the row of ``results.csv``, as `anomaly_lib.evaluation.measures.measure` does."""
        row = dict.fromkeys(RESULT_COLUMNS, math.nan)
        judged = self.labels != UNKNOWN
        scores, labels = self.scores[judged], self.labels[judged]
        row["instance_auroc"] = metrics.auroc(scores, labels)
        row["instance_average_precision"] = metrics.average_precision(scores, labels)
        row["instance_f1_max"] = metrics.f1_max(scores, labels)
        row["instance_balanced_accuracy"] = metrics.balanced_accuracy(scores, labels, threshold)
        for name, part in self.parts.items():
            row |= {f"{metric}_{name}": value for metric, value in part.aurocs().items()}
        if self.pixels is not None:
            pixels = self.pixels.metrics()
            row["full_pixel_auroc"] = pixels.full_pixel_auroc
            row["anomaly_pixel_auroc"] = pixels.anomaly_pixel_auroc
            row["aupro"] = pixels.aupro
            row["pixel_average_precision"] = pixels.average_precision
            row["pixel_f1_max"] = pixels.f1_max
        return row

    def aurocs(self) -> dict[str, float]:
        """Return ``instance_auroc``, and with pixels ``full_pixel_auroc``."""
        judged = self.labels != UNKNOWN
        row = {"instance_auroc": metrics.auroc(self.scores[judged], self.labels[judged])}
        if self.pixels is not None:
            row["full_pixel_auroc"] = self.pixels.metrics().full_pixel_auroc
        return row

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return it as a site sends it, by name."""
        named = {_LABELS: torch.from_numpy(self.labels), **self._own_tensors()}
        for name, part in self.parts.items():
            named |= {f"{_PART}{name}.{key}": value for key, value in part._own_tensors().items()}
        return named

    def _own_tensors(self) -> dict[str, torch.Tensor]:
        named = {_SCORES: torch.from_numpy(np.asarray(self.scores, np.float32))}
        if self.pixels is not None:
            counts = self.pixels
            arrays = {"bins": counts.bins, "counts": counts.counts, "overlap": counts.overlap}
            named |= {f"{_PIXELS}{name}": torch.from_numpy(array) for name, array in arrays.items()}
        return named

    @classmethod
    def of_tensors(cls, saved: SavedTensors, images: int) -> "TestedImages":
        """Return what `tensors` did, of so many images.

        Raises
        ------
        ModelFileError
            When it is anything else.
        """
        labels = saved.take(_LABELS, images, dtype=torch.int64)
        if not torch.isin(labels, torch.tensor([GOOD, ANOMALOUS, UNKNOWN])).all():
            raise ModelFileError("a site's labels are none")
        names = {name.split(".")[1]: None for name in saved.names() if name.startswith(_PART)}
        parts = {name: cls._taken(saved.below(f"{_PART}{name}."), labels.numpy()) for name in names}
        own = cls._taken(saved, labels.numpy())
        saved.require_empty()
        return cls(own.scores, own.labels, own.pixels, parts)

    @classmethod
    def _taken(cls, saved: SavedTensors, labels: np.ndarray) -> "TestedImages":
        scores = saved.take(_SCORES, len(labels)).numpy()
        if f"{_PIXELS}bins" not in saved.names():
            return cls(scores, labels, None, {})
        bins = saved.take(f"{_PIXELS}bins", None, dtype=torch.int64).numpy()
        counts = saved.take(f"{_PIXELS}counts", len(bins), 3, dtype=torch.int64).numpy()
        overlap = saved.take(f"{_PIXELS}overlap", len(bins), dtype=torch.float64).numpy()
        ascending = (np.diff(bins) > 0).all() and (not len(bins) or bins[0] >= 0)
        if (
            not ascending
            or bins.max(initial=0) >= 2**19
            or counts.min(initial=0) < 0
            or overlap.min(initial=0) < 0
        ):
            raise ModelFileError("a site's counts of pixels are none")
        return cls(scores, labels, PixelCounts(bins, counts, overlap), {})
