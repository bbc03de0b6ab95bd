"""The threshold of several sites: from the scores that each of them sends of its own images."""

from typing import Generic, TypeVar

import numpy as np
import torch

from anomaly_lib.detectors import Detector
from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.errors import ModelFileError
from anomaly_lib.federated.turns import Tensors, Turn

D = TypeVar("D", bound=Detector)


def sent(numbers: np.ndarray, scores: np.ndarray) -> dict[str, torch.Tensor]:
    """Return what a site sends of the scores (n,) of its images with these numbers (n,).

    Those that are not finite are left out: they were not scored, or there was nothing to score them by.
    """
    known = np.isfinite(scores)
    return {"numbers": torch.from_numpy(numbers[known]), "scores": torch.from_numpy(scores[known])}


def calibration_of(tensors: Tensors, turn: Turn) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers (n,) of a site's images and their scores (n,), as `sent`.

    Raises
    ------
    ModelFileError
        When they are anything else, or numbers of other sites' images.
    """
    saved = SavedTensors(tensors)
    numbers = saved.take("numbers", None, dtype=torch.int64)
    scores = saved.take("scores", len(numbers))
    saved.require_empty()
    own = (turn.first <= numbers) & (numbers < turn.first + turn.images)
    if not own.all() or len(numbers.unique()) < len(numbers):
        raise ModelFileError("a site's scores are not those of its own images, each once")
    return numbers.numpy(), scores.numpy()


class Director(Generic[D]):
    """The director's end, as far as the threshold goes; `detector` becomes the merged model."""

    def __init__(self, detector: D) -> None:
        self.detector = detector
        self._calibration: list[tuple[np.ndarray, np.ndarray]] = []

    def add_calibration(self, tensors: Tensors, turn: Turn) -> None:
        """Take in the scores that the site of this `turn` sent.

        Raises
        ------
        ModelFileError
            When they are not what a site's `calibration` returns.
        """
        self._calibration.append(calibration_of(tensors, turn))

    def finish(self) -> D:
        """Set the threshold by the scores of all sites, and return the detector."""
        numbers = np.concatenate([np.zeros(0, np.int64), *(numbers for numbers, _ in self._calibration)])
        scores = np.concatenate([np.zeros(0, np.float32), *(scores for _, scores in self._calibration)])
        order = numbers.argsort(kind="stable")
        return self.detector.take_calibration(numbers[order], scores[order])
