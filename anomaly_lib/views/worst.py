"""Which categories and which images went worst: tables to sort, and pictures of the rows that were chosen."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anomaly_lib.datasets import read_picture
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.evaluation import metrics
from anomaly_lib.evaluation.predictions import Predictions
from anomaly_lib.views.plots import map_range, plot_examples
from anomaly_lib.views.plots.pixels import BRIGHTEST

log = logging.getLogger(__name__)

EXAMPLE_METRICS = ("pixel_f1", "pixel_recall", "pixel_auroc", "image_margin")
"""Columns of `example_table` to sort by; of each, more is better."""


def rank_categories(results: pd.DataFrame, metric: str = "instance_auroc") -> list[str]:
    """Return the rows of ``results.csv`` from the worst category to the best, without ``Mean``.

    Categories without a value are left out; when none has one, all are returned in their order.
    """
    values = results.drop(index="Mean", errors="ignore")[metric]
    if values.isna().all():
        log.warning("no category has a value of %s: they stay in their order", metric)
        return [str(row) for row in values.index]
    return [str(row) for row in values.dropna().sort_values(kind="stable").index]


def pixel_threshold(predictions: Predictions) -> float:
    """Return the threshold to binarise maps with: F1-optimal, or the model's own where no mask is known."""
    optimal = predictions.optimal_threshold
    return optimal if np.isfinite(optimal) else predictions.threshold


def example_table(predictions: Predictions, threshold: float | None = None) -> pd.DataFrame:
    """Measure every test image of known truth by itself: a row for each, in the order of the predictions.

    The columns are ``image`` (folder and file), ``anomalous``, ``image_score`` and `EXAMPLE_METRICS`:

    - ``image_score``: in units of the model's own threshold.
    - ``image_margin``: how far the image score is on the right side of the model's own threshold, as a share
      of it; negative for a missed defect or a false alarm.
    - ``pixel_f1``, ``pixel_recall``: of the map binarised at `threshold`, by default `pixel_threshold`, nan
      for images without a defect or without a mask.
    - ``pixel_auroc``: over the pixels of the image, without any threshold; nan likewise.
    """
    cut = pixel_threshold(predictions) if threshold is None else threshold
    predictions = predictions.judged
    excess = (predictions.imagewise_pred.astype(float) - predictions.threshold) / abs(predictions.threshold)
    scores, truth = predictions.in_thresholds.imagewise_pred.astype(float), predictions.imagewise_gt
    table = pd.DataFrame(
        {
            "image": ["/".join(Path(name).parts[-2:]) for name in predictions.fnames],
            "anomalous": truth,
            "image_score": scores,
            "image_margin": np.where(truth, excess, -excess),
        }
    )
    table[["pixel_f1", "pixel_recall", "pixel_auroc"]] = [
        _pixel_metrics(predictions, i, cut) for i in range(len(table))
    ]
    return table


def plot_chosen(predictions: Predictions, chosen: pd.DataFrame, metric: str, transform: Transform) -> Figure:
    """Draw the images in the rows of `chosen`, taken from `example_table`: image, map, decision, truth.

    Scores and maps are in units of the model's own threshold, and all maps in the same colours: good parts
    look alike.

    Parameters
    ----------
    metric
        Column that each title gives beside the image score.
    transform
        Geometry that the model saw the images in: ``load_detector(folder).transform``.
    """
    predictions = predictions.judged.in_thresholds
    threshold = pixel_threshold(predictions)
    scaled = predictions.threshold == 1
    places = chosen.index.to_numpy()
    masks, known = predictions.masks, predictions.pixelwise_known
    return plot_examples(
        [_seen(Path(predictions.fnames[i]), transform, masks[i].shape) for i in places],
        predictions.pixelwise_pred[places],
        [masks[i] if known[i] else None for i in places],
        [_title(row, metric) for _, row in chosen.iterrows()],
        threshold,
        value_range=(0.0, BRIGHTEST) if scaled else map_range(predictions.pixelwise_pred, threshold),
        unit="share of the model's threshold" if scaled else "score",
    )


def _pixel_metrics(predictions: Predictions, i: int, threshold: float) -> tuple[float, float, float]:
    mask = predictions.masks[i]
    if not (len(predictions.pixelwise_pred) and predictions.pixelwise_known[i] and mask.any()):
        return np.nan, np.nan, np.nan
    scores = predictions.pixelwise_pred[i]
    recall = float((scores[mask] >= np.float64(threshold)).mean())
    return metrics.f1(scores, mask, threshold), recall, metrics.auroc(scores, mask)


def _seen(path: Path, transform: Transform, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the picture as the model saw it, in the shape of its map: (h, w, 3)."""
    return transform.image(read_picture(path), shape).permute(1, 2, 0).numpy()


def _title(row: pd.Series, metric: str) -> str:
    score = f"image score {row['image_score']:.3g}"
    value = "" if pd.isna(row[metric]) else f", {metric.replace('_', ' ')} {row[metric]:.2f}"
    return f"{row['image']}: {score}{value}"
