"""From predictions to the row of ``results.csv``: an old run can be measured again."""

import math
from dataclasses import dataclass

import numpy as np

from anomaly_lib.evaluation import metrics
from anomaly_lib.evaluation.predictions import Predictions, Scores

RESULT_COLUMNS = (
    # The official PatchCore's, in its order
    "instance_auroc",
    "full_pixel_auroc",
    "anomaly_pixel_auroc",
    # ours
    "aupro",
    "instance_average_precision",
    "instance_f1_max",
    "instance_balanced_accuracy",
    "pixel_average_precision",
    "pixel_f1_max",
)


@dataclass(frozen=True)
class Measures:
    """The metrics of one category's predictions.

    Attributes
    ----------
    row
        Those of `RESULT_COLUMNS`, then the AUROCs of the scores' parts; nan where the category has nothing to
        tell a metric by.
    optimal_threshold
        The pixel threshold with the highest F1; it comes with ranking the pixels, which takes the time.
    """

    row: dict[str, float]
    optimal_threshold: float = math.nan


def measure(predictions: Predictions) -> Measures:
    """Measure predictions: of the images of which is known whether they are good.

    Pixel metrics are over the images whose true defect area is known.
    """
    predictions = predictions.judged
    scores, labels = predictions.imagewise_pred, predictions.imagewise_gt
    row = dict.fromkeys(RESULT_COLUMNS, math.nan)
    row["instance_auroc"] = metrics.auroc(scores, labels)
    row["instance_average_precision"] = metrics.average_precision(scores, labels)
    row["instance_f1_max"] = metrics.f1_max(scores, labels)
    row["instance_balanced_accuracy"] = metrics.balanced_accuracy(scores, labels, predictions.threshold)
    for name, part in predictions.parts.items():
        row |= _aurocs(part, predictions, f"_{name}")
    if not has_pixel_truth(predictions):
        return Measures(row)
    has_truth = predictions.pixelwise_known
    pixels = metrics.pixel_metrics(predictions.pixelwise_pred[has_truth], predictions.masks[has_truth])
    row["full_pixel_auroc"] = pixels.full_pixel_auroc
    row["anomaly_pixel_auroc"] = pixels.anomaly_pixel_auroc
    row["aupro"] = pixels.aupro
    row["pixel_average_precision"] = pixels.average_precision
    row["pixel_f1_max"] = pixels.f1_max
    return Measures(row, pixels.f1_threshold)


def aurocs(predictions: Predictions) -> dict[str, float]:
    """Return ``instance_auroc``, with maps and masks ``full_pixel_auroc``, and those of the parts."""
    predictions = predictions.judged
    row = _aurocs(predictions.scores, predictions, "")
    for name, part in predictions.parts.items():
        row |= _aurocs(part, predictions, f"_{name}")
    return row


def has_pixel_truth(predictions: Predictions) -> bool:
    """Return whether there are maps, and masks of defects to compare them with."""
    truth = predictions.masks[predictions.pixelwise_known]
    return bool(len(predictions.pixelwise_pred)) and bool(np.any(truth))


def _aurocs(scores: Scores, truth: Predictions, suffix: str) -> dict[str, float]:
    has_truth = truth.pixelwise_known
    row = {f"instance_auroc{suffix}": metrics.auroc(scores.image, truth.imagewise_gt)}
    if scores.maps is not None and truth.masks[has_truth].any():
        row[f"full_pixel_auroc{suffix}"] = metrics.auroc(scores.maps[has_truth], truth.masks[has_truth])
    return row
