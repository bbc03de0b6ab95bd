"""The contract that every detector keeps: fit on normal images, score any, save and load."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import numpy as np
import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import AnomalyError, DataError
from anomaly_lib.evaluation.thresholds import conformal_threshold
from anomaly_lib.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd


class Images(Protocol):
    """A source of images that can be iterated over more than once.

    Iterating yields batches (n, 3, h, w), float in [0, 1]; ``len()`` is the number of images.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[torch.Tensor]: ...


class TensorImages:
    """Images (n, 3, h, w) in memory as a source of batches."""

    def __init__(self, images: torch.Tensor, batch_size: int = 8) -> None:
        self._images = images
        self._batch_size = batch_size

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self._images.split(self._batch_size) if len(self._images) else ())


@dataclass(frozen=True)
class Scores:
    """What a detector says of n images, raw, in the method's own unit: the larger, the more anomalous.

    Attributes
    ----------
    image
        (n,) float32.
    maps
        (n, h, w) float32 at the size of the model's input, or ``None`` from a method that does not localise.
    parts
        What these scores are combined from, by name, where that is worth measuring by itself.
    """

    image: np.ndarray
    maps: np.ndarray | None
    parts: Mapping[str, "Scores"] = field(default_factory=dict)


class Watch(Protocol):
    """Told of every epoch by a detector that trains in epochs."""

    def __call__(self, epoch: int, losses: Mapping[str, float], detector: "Detector | None") -> None:
        """Take note of an epoch's mean losses by name, and, when it is time for a look, of the detector."""


def unwatched(epoch: int, losses: Mapping[str, float], detector: "Detector | None") -> None:
    """Take no note."""


class NotFittedError(AnomalyError):
    """`score` or `save` was called before `fit`."""


class Detector(ABC):
    """Base class of the detectors.

    The constructor only stores hyper-parameters; what `fit` learns has names that end in ``_``.

    Attributes
    ----------
    method
        The detector's word in commands and model files.
    transform
        Geometry of its input; saved with the model.
    threshold_
        An image whose score reaches it is called anomalous. From the normal images of `fit` alone; nan when
        they were too few to tell.
    """

    method: ClassVar[str]
    transform: Transform
    threshold_: float

    def prepare(self, name: str, watch: Watch) -> None:  # noqa: B027  (most methods have no epochs)
        """Learn, before `fit`, what a run calls its images, and who watches.

        Parameters
        ----------
        name
            Unique within a run; for the folders of checkpoints.
        watch
            Called after every epoch.
        """

    def require_size(self, height: int, width: int) -> None:  # noqa: B027  (most methods take any size)
        """Raise a `DataError` when the fitted detector cannot score images of this size, in pixels."""

    @property
    def fitted(self) -> bool:
        """Whether `fit` has been called or a fitted model loaded."""
        return hasattr(self, "threshold_")

    @abstractmethod
    def fit(self, images: Images | torch.Tensor, progress: Progress = silent) -> Self:
        """Learn from normal images and return the detector.

        Raises
        ------
        DataError
            When there are no images or they are not (n, 3, h, w).
        """

    @abstractmethod
    def score(self, images: Images | torch.Tensor, progress: Progress = silent) -> Scores:
        """Return the anomaly scores and maps of images.

        Raises
        ------
        NotFittedError
            Before `fit`.
        DataError
            When the images are not (n, 3, h, w).
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the fitted model to `folder`; `anomaly_lib.load_detector` reads it."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, *, device: str = "auto", weights: str | None = None) -> Self:
        """Return the model saved in `folder`; scores are the same to the bit on the same machine."""

    def tables(self, scores: Scores, labels: np.ndarray) -> "dict[str, pd.DataFrame]":
        """Return what else there is to say of scored images with `labels` (n,), by name: by default nothing.

        A run writes each as a file of that name.
        """
        return {}

    def _require_fitted(self) -> None:
        if not self.fitted:
            raise NotFittedError(
                f"this {type(self).__name__} has learned nothing yet: call fit(images) first"
            )


def checked_batches(images: Images | torch.Tensor) -> tuple[int, Iterator[torch.Tensor]]:
    """Return the number of images and their batches, each checked when it comes."""
    source = TensorImages(images) if isinstance(images, torch.Tensor) else images
    return len(source), map(_checked, source)


def _checked(batch: torch.Tensor) -> torch.Tensor:
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise DataError(f"images come in batches of shape (n, 3, height, width), not {tuple(batch.shape)}")
    if not batch.is_floating_point():
        raise DataError(f"images are floats in [0, 1], not {batch.dtype}: divide 8-bit images by 255")
    return batch.float()


def normal_threshold(scores: np.ndarray, false_alarm_rate: float, needed: str = "two") -> float:
    """Return `threshold_` for the scores (n,) of normal images that count as not fitted on.

    Scores that are not finite (the model had nothing to compare the image with) are left out. Without any
    other it is nan and a warning says so, and how many images the detector would have `needed`.
    """
    known = scores[np.isfinite(scores)]
    if len(known):
        return conformal_threshold(known, false_alarm_rate)
    warnings.warn(f"no threshold: it takes at least {needed} normal images to learn one", stacklevel=3)
    return math.nan
