"""A run's metrics and pictures for TensorBoard, when that package is installed."""

import io
import itertools
import logging
import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from anomaly_lib.evaluation.predictions import Predictions
from anomaly_lib.views.plots import plot_score_histogram

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

log = logging.getLogger(__name__)

_number = itertools.count()  # tells files of the same second apart


class EventFile:
    """A file that TensorBoard reads; every addition is in it when `add` returns, or the error is raised.

    The writer of the package itself writes in a thread, whose errors, as of a full disk, are lost.

    Parameters
    ----------
    folder
        Where the file is made; TensorBoard calls what is in it after the folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        words = ("events.out.tfevents", f"{time.time():010.0f}", socket.gethostname(), os.getpid())
        self._file = folder / ".".join(map(str, (*words, next(_number))))
        self._append(file_version="brain.Event:2")

    def add(self, values: Mapping[str, float], step: int = 0, figures: Mapping[str, Figure] = {}) -> None:
        """Add those of `values` that are known, and `figures`, each by its name."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        known = {name: value for name, value in values.items() if not math.isnan(value)}
        summaries = [Summary.Value(tag=name, simple_value=value) for name, value in known.items()]
        summaries += [Summary.Value(tag=name, image=_image(figure)) for name, figure in figures.items()]
        for one in summaries:
            self._append(summary=Summary(value=[one]), step=step)

    def _append(self, **event: Any) -> None:
        """Append an event, whole or not at all."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **event).SerializeToString())
        rest = memoryview(record.getbuffer())
        with self._file.open("ab", buffering=0) as stream:
            before = stream.tell()
            try:
                while rest:
                    rest = rest[stream.write(rest) :]
            except OSError as error:
                stream.truncate(before)
                error.filename = str(self._file)
                raise


def open_events(folder: Path) -> EventFile | None:
    """Return a new file in `folder`; without the package a warning says how to get it."""
    try:
        import tensorboard.compat.proto.event_pb2  # noqa: F401
    except ImportError:
        log.warning("nothing is written for TensorBoard: install the package tensorboard")
        return None
    return EventFile(folder)


def write_tensorboard(folder: Path, metrics: Mapping[str, float], predictions: Predictions) -> None:
    """Write the metrics of one category as scalars and its image scores as a figure.

    Without the package a warning says how to get it.
    """
    if (events := open_events(folder)) is None:
        return
    predictions = predictions.judged
    figure = Figure(figsize=(9, 4), layout="constrained")
    plot_score_histogram(
        predictions.imagewise_pred,
        predictions.imagewise_gt,
        {} if math.isnan(predictions.threshold) else {"model's own": predictions.threshold},
        ax=figure.subplots(),
    )
    events.add(metrics, figures={"image scores": figure})


def _image(figure: Figure) -> "Summary.Image":
    from tensorboard.compat.proto.summary_pb2 import Summary

    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    return Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=picture.getvalue())
