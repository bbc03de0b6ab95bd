"""What a training tells of its epochs, as a table in the run's folder and for TensorBoard."""

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd

from anomaly_lib.detectors import Detector
from anomaly_lib.files import new_file
from anomaly_lib.runs.tensorboard import EventFile, open_events

Look = Callable[[Detector], Mapping[str, float]]


class TrainingLog:
    """Writes a row for every epoch: its number, seconds since the start, losses, and what a look found.

    It is what a detector's `fit` takes to `watch`. The files are begun when there is a first epoch.

    Parameters
    ----------
    file
        The table, csv.
    look
        Measures the detector at the epochs at which it asks to be looked at.
    tensorboard
        Folder for the same numbers, or none.
    """

    def __init__(self, file: Path, look: Look, tensorboard: Path | None = None) -> None:
        self._file, self._look = file, look
        self._tensorboard = tensorboard
        self._start = time.perf_counter()
        self._rows: list[dict[str, float]] = []

    def __call__(
        self, epoch: int, losses: Mapping[str, float], detector: Detector | None
    ) -> Mapping[str, float]:
        """Add the row of an epoch and return what the look measured."""
        look = self._look(detector) if detector is not None else {}
        values = {**losses, **look}
        self._rows.append({"epoch": epoch, "seconds": round(time.perf_counter() - self._start, 1), **values})
        with new_file(self._file) as unfinished:
            pd.DataFrame(self._rows).to_csv(unfinished, index=False)
        if self._events is not None:
            self._events.add(values, epoch)
        return look

    @cached_property
    def _events(self) -> EventFile | None:
        return None if self._tensorboard is None else open_events(self._tensorboard)
