"""A run's metrics and pictures for TensorBoard, when that package is installed."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from anomaly_lib.plots import plot_score_histogram
from anomaly_lib.predictions import Predictions

log = logging.getLogger(__name__)


def write_tensorboard(folder: Path, row: str, metrics: Mapping[str, float], predictions: Predictions) -> None:
    """Write the metrics of one category as scalars and its image scores as a figure.

    Without the package a warning says how to get it.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("--tensorboard has no effect: install the package tensorboard")
        return
    with SummaryWriter(str(folder / row)) as writer:
        for name, value in metrics.items():
            if not math.isnan(value):
                writer.add_scalar(name, value)
        figure = Figure(figsize=(9, 4), layout="constrained")
        plot_score_histogram(
            predictions.imagewise_pred,
            predictions.imagewise_gt,
            {} if math.isnan(predictions.threshold) else {"model's own": predictions.threshold},
            ax=figure.subplots(),
        )
        writer.add_figure("image scores", figure)
