"""The two ends that every method has: what a site does with its images, and what the director makes of it.

First a site shares what its method sends of its images, and the director merges it. Then the director sends
the merged model, and the site answers with the scores of images that the model may be judged by.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np
import torch

from anomaly_lib.detectors import Detector
from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.sources import Images
from anomaly_lib.errors import ModelFileError
from anomaly_lib.federated.turns import Tensors, Turn
from anomaly_lib.progress import Progress, silent

D = TypeVar("D", bound=Detector)

_MODEL = "model."


class Site(ABC, Generic[D]):
    """One site's end.

    Parameters
    ----------
    detector
        Not fitted; with the same parameters, the seed among them, at every site and at the director.
    images
        The site's own.
    turn
        Where they are among all.

    Attributes
    ----------
    detector
        The merged model, once it has been taken over.
    """

    def __init__(self, detector: D, images: Images | torch.Tensor, turn: Turn) -> None:
        self.detector, self.images, self.turn = detector, images, turn

    @abstractmethod
    def share(self, progress: Progress = silent) -> dict[str, torch.Tensor]:
        """Return what the director merges, by name; errors are those of the detector's `fit`."""

    def calibration(self, merged: Tensors, progress: Progress = silent) -> dict[str, torch.Tensor]:
        """Take over what `Director.merged` returned, and return the scores of this site's images by it.

        Returns
        -------
        dict
            ``numbers`` (n,) int64 and ``scores`` (n,) float32, of each image as if the model had not seen it;
            without those that cannot be told.

        Raises
        ------
        ModelFileError
            When it is no model of this detector.
        """
        saved = SavedTensors(merged)
        numbers, scores = self._left_out_scores(saved.below(_MODEL), saved, progress)
        known = np.isfinite(scores)
        return {"numbers": torch.from_numpy(numbers[known]), "scores": torch.from_numpy(scores[known])}

    @abstractmethod
    def _left_out_scores(
        self, model: SavedTensors, extra: SavedTensors, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take over the `model`, and return numbers (n,) and scores (n,); `extra` is `Director.extra`'s."""


class Director(ABC, Generic[D]):
    """The director's end.

    Parameters
    ----------
    detector
        Not fitted; it becomes the merged model.

    Attributes
    ----------
    images
        How many images the sites that were merged have.
    """

    def __init__(self, detector: D) -> None:
        self.detector = detector
        self.images = 0
        self._calibration: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, tensors: Tensors, turn: Turn) -> None:
        """Merge what the site of this `turn` shared, one after the other in the order of the sites.

        What is refused leaves no trace.

        Raises
        ------
        ModelFileError
            When it is not what `Site.share` returns, of the images of this `turn`.
        DataError
            When its images were of another size.
        """
        self._add(SavedTensors(tensors), turn)
        self.images += turn.images

    @abstractmethod
    def _add(self, tensors: SavedTensors, turn: Turn) -> None:
        """Merge what a site shared."""

    def merged(self) -> dict[str, torch.Tensor]:
        """Finish the model, but for its threshold, and return what the sites score by.

        Raises
        ------
        DataError
            When the sites had too few images.
        """
        extra = self._finished()
        self.detector.images_ = self.images
        return {**{f"{_MODEL}{name}": value for name, value in self._model().items()}, **extra}

    @abstractmethod
    def _finished(self) -> dict[str, torch.Tensor]:
        """Finish the model, and return what scoring takes beside it."""

    def _model(self) -> dict[str, torch.Tensor]:
        """Return the model's tensors that scoring takes."""
        return self.detector.tensors()

    def add_calibration(self, tensors: Tensors, turn: Turn) -> None:
        """Take in the scores that the site of this `turn` sent.

        Raises
        ------
        ModelFileError
            When they are not what `Site.calibration` returns, of the images of this `turn`.
        """
        saved = SavedTensors(tensors)
        numbers = saved.take("numbers", None, dtype=torch.int64)
        scores = saved.take("scores", len(numbers))
        saved.require_empty()
        own = (turn.first <= numbers) & (numbers < turn.first + turn.images)
        if not own.all() or len(numbers.unique()) < len(numbers):
            raise ModelFileError("a site's scores are not those of its own images, each once")
        self._calibration.append((numbers.numpy(), scores.numpy()))

    def finish(self) -> D:
        """Set the threshold by the scores of all sites, and return the detector."""
        numbers = np.concatenate([np.zeros(0, np.int64), *(numbers for numbers, _ in self._calibration)])
        scores = np.concatenate([np.zeros(0, np.float32), *(scores for _, scores in self._calibration)])
        order = numbers.argsort(kind="stable")
        return self.detector.take_calibration(numbers[order], scores[order])

    def most_bytes(self, turn: Turn, shape: tuple[int, int]) -> int:
        """Return how many bytes are too many for what a site of this `turn` shares.

        `shape` is (height, width) of the first image; they may differ in it.
        """
        return 4 * self._expected_bytes(turn.images, shape) + 2**16

    @abstractmethod
    def _expected_bytes(self, images: int, shape: tuple[int, int]) -> int:
        """Return about how many bytes a site with so many images shares."""
