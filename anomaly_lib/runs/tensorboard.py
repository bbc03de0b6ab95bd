"""A run's metrics and pictures for TensorBoard, when that package is installed."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from anomaly_lib.evaluation.predictions import Predictions
from anomaly_lib.views.plots import plot_score_histogram

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)


def open_writer(folder: Path) -> "SummaryWriter | None":
    """Return a writer into `folder`; without the package a warning says how to get it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("--tensorboard has no effect: install the package tensorboard")
        return None
    return SummaryWriter(str(folder))


def write_scalars(writer: "SummaryWriter", values: Mapping[str, float], step: int | None = None) -> None:
    """Write those of `values` that are known."""
    for name, value in values.items():
        if not math.isnan(value):
            writer.add_scalar(name, value, step)
    writer.flush()


def write_tensorboard(folder: Path, row: str, metrics: Mapping[str, float], predictions: Predictions) -> None:
    """Write the metrics of one category as scalars and its image scores as a figure.

    Without the package a warning says how to get it.
    """
    if (opened := open_writer(folder / row)) is None:
        return
    with opened as writer:
        write_scalars(writer, metrics)
        figure = Figure(figsize=(9, 4), layout="constrained")
        plot_score_histogram(
            predictions.imagewise_pred,
            predictions.imagewise_gt,
            {} if math.isnan(predictions.threshold) else {"model's own": predictions.threshold},
            ax=figure.subplots(),
        )
        writer.add_figure("image scores", figure)
