"""The threshold of several sites: from the scores that each of them sends of its own images."""

from collections.abc import Sequence
from typing import TypeVar

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


def take_calibration(detector: D, of_sites: Sequence[tuple[np.ndarray, np.ndarray]]) -> D:
    """Set the detector's threshold by numbers and scores of all sites' images, and return it."""
    numbers = np.concatenate([np.zeros(0, np.int64), *(numbers for numbers, _ in of_sites)])
    scores = np.concatenate([np.zeros(0, np.float32), *(scores for _, scores in of_sites)])
    order = numbers.argsort(kind="stable")
    return detector.take_calibration(numbers[order], scores[order])
