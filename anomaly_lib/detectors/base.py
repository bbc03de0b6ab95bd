"""The contract that every detector keeps: fit on normal images, score any, save and load."""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.calibrated import Calibrated
from anomaly_lib.detectors.parameters import Constraint, constructor_call, require_all
from anomaly_lib.detectors.places import PatchPlace
from anomaly_lib.detectors.sources import Images, checked_batches, told
from anomaly_lib.detectors.watch import Watch, unwatched
from anomaly_lib.errors import DataError
from anomaly_lib.evaluation.predictions import Scores
from anomaly_lib.evaluation.thresholds import Verdict, verdict
from anomaly_lib.networks.threads import considerate
from anomaly_lib.predict import Answer, Picture, predict
from anomaly_lib.progress import Progress, silent, track

if TYPE_CHECKING:
    import pandas as pd

# As many images are scored in the time after which `considerate` first looks at what others use.
_FEW_IMAGES = 8


class Detector(Calibrated):
    """Base class of the detectors.

    The constructor only stores hyper-parameters; what `fit` learns has names that end in ``_``. A detector
    implements `learn`, `score_batch`, `tensors` and `restore`; fitting, scoring, saving and loading are
    written once: here, in `anomaly_lib.detectors.calibrated` (thresholds) and in
    `anomaly_lib.detectors.persistence` (model files).

    Attributes
    ----------
    method
        The detector's word in commands and model files.
    constraints
        What its hyper-parameters may be, by name.
    saved
        What its description in a model file has to say, by name.
    unsaved
        The hyper-parameters that a model file does not keep among its parameters.
    transform
        Geometry of its input; saved with the model.
    input_shape_
        (height, width) in pixels of the first image that it was fitted on; ``None`` when nobody knows.
    calibration_
        (n,) float32 scores of normal images that the model was not fitted on; empty when there are none.
    images_
        How many images it has learned from.
    calibration_of_
        (n,) int64, the number of the training image that each of them is of; -1 where nobody knows.
    threshold_
        An image whose score reaches it is called anomalous: the conformal quantile of `calibration_` at
        `false_alarm_rate`, without `outliers` when `robust`; nan when the images were too few to tell.
    """

    method: ClassVar[str]
    constraints: ClassVar[Mapping[str, Constraint]] = {}
    transform: Transform
    device: torch.device

    # Fitting

    def fit(
        self, images: Images | torch.Tensor, progress: Progress = silent, watch: Watch = unwatched
    ) -> Self:
        """Learn from normal images and return the detector.

        Parameters
        ----------
        images
            A source of batches (n, 3, h, w) in [0, 1], or a tensor of that shape.
        progress
            Told how far each stage is.
        watch
            Called after every epoch, by a detector that trains in epochs.

        Raises
        ------
        DataError
            When there are no images, they are not (n, 3, h, w), or a pixel or what is learned is not finite.
        """
        self.fit_scores(images, progress, watch)
        return self

    def fit_scores(
        self, images: Images | torch.Tensor, progress: Progress = silent, watch: Watch = unwatched
    ) -> np.ndarray | None:
        """Fit, and return what `learn` did: of each image, in order."""
        if len(images) == 0:
            raise DataError(f"no images to fit on: {type(self).__name__} needs images of good parts")
        self._forget()  # what fails half-way leaves no mixture of two fits
        with considerate(progress) as progress:
            scores = self.learn(told(images, self._take_shape), progress, watch)
        for name, tensor in self.tensors().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise DataError(
                    f"{type(self).__name__} learned a {name} that is not finite: use precision fp32"
                )
        self.images_ = len(images)
        self._calibrate(scores)
        return scores

    @abstractmethod
    def learn(self, images: Images | torch.Tensor, progress: Progress, watch: Watch) -> np.ndarray | None:
        """Learn from normal images, at least one, all but the threshold.

        Returns
        -------
        numpy.ndarray or None
            (n,) scores of the images as if the model had not been fitted on them, infinite where it had
            nothing to compare an image with and nan where an image was not scored; ``None`` when no threshold
            is asked for.
        """

    def update(
        self, images: Images | torch.Tensor, progress: Progress = silent, *, calibrate: bool = True
    ) -> Self:
        """Learn from further normal images without fitting again, and return the detector.

        Parameters
        ----------
        images
            Of the size that the model was fitted on.
        progress
            Told how far each stage is.
        calibrate
            Let the images count for the threshold, as the first ones do. Leave out images that were chosen
            because the model was wrong about them: their scores are high by choice, and say nothing of how
            often others are.

        Raises
        ------
        NotFittedError
            Before `fit`.
        DataError
            When there are no images, or they are not what the model was fitted on, or the model file was
            written by a version that did not keep what this takes.
        """
        self._require_fitted()
        if len(images) == 0:
            raise DataError("no images to learn from: give images of good parts")
        updated = copy.copy(self)  # what fails half-way leaves the detector as it was
        with considerate(progress) as progress:
            scores = updated.learn_more(told(images, self._require_shape), calibrate, progress)
        if scores is not None:
            known = np.flatnonzero(np.isfinite(scores))
            updated.calibration_ = np.concatenate([self.calibration_, scores[known]])
            updated.calibration_of_ = np.concatenate([self.calibration_of_, self.images_ + known])
        updated.images_ = self.images_ + len(images)
        if len(updated.calibration_):
            updated._set_threshold()
        vars(self).update(vars(updated))
        return self

    def learn_more(
        self, images: Images | torch.Tensor, calibrate: bool, progress: Progress
    ) -> np.ndarray | None:
        """Take normal images in that come after the `images_` before; of a copy that nobody else has.

        Returns
        -------
        numpy.ndarray or None
            (n,) scores of these images, as of `learn`; ``None`` where `calibration_` has been brought up to
            date already.
        """
        raise DataError(f"{type(self).__name__} cannot learn on: fit it again on all images")

    # Scoring

    def score(self, images: Images | torch.Tensor, progress: Progress = silent) -> Scores:
        """Return the anomaly scores and maps of images.

        Raises
        ------
        NotFittedError
            Before `fit`.
        DataError
            When the images are not (n, 3, h, w), or not of the size that the model was fitted on, or a pixel
            or a score is not finite.
        """
        self._require_fitted()
        # Single images are scored before it can be known what others use, and looking takes a fifth of that.
        waits = nullcontext(progress) if len(images) <= _FEW_IMAGES else considerate(progress)
        scores = []
        with torch.inference_mode(), waits as progress:
            for batch in track(checked_batches(images), "score", len(images), progress):
                self._require_shape(batch)
                scores.append(self.score_batch(batch))
                self._require_finite(scores[-1])
        return Scores.gathered(scores) if scores else self._no_scores()

    @abstractmethod
    def score_batch(self, images: torch.Tensor) -> Scores:
        """Return the scores of images (n, 3, h, w), at least one; without side effects, safe in threads."""

    @property
    def localises(self) -> bool:
        """Whether the fitted detector makes maps."""
        return True

    def verdicts(self, scores: Scores) -> list[Verdict]:
        """Return what is said of each image: "anomalous" where its score reaches `threshold_`, else "good".

        Without a threshold it is "no threshold", whatever the score.

        Raises
        ------
        NotFittedError
            Before `fit`.
        DataError
            When a score is not finite.
        """
        self._require_fitted()
        self._require_finite(scores)
        return [verdict(score, self.threshold_) for score in scores.image]

    def predict(self, pictures: Picture | Iterable[Picture]) -> Answer | list[Answer]:
        """Return what is said of a picture, or of a list of them; see `anomaly_lib.predict.predict`."""
        return predict(self, pictures)

    def seen_shape(self, width: int, height: int) -> tuple[int, int]:
        """Return (height, width) of what the fitted model sees of a picture of this size, at its input."""
        return self.transform.shape(width, height)

    def nearest_patches(self, image: torch.Tensor, row: int, column: int, k: int = 5) -> list[PatchPlace]:
        """Return the `k` training patches nearest to a patch of an image, nearest first.

        Parameters
        ----------
        image
            (3, h, w) in [0, 1], at the model's input.
        row, column
            A pixel in the middle of the patch; of the patches that are compared, the nearest is taken.

        Raises
        ------
        DataError
            When the method compares with no patches, or the model does not say where they are from.
        """
        raise DataError(
            f"{type(self).__name__} keeps no training patches: it compares with the distribution of all"
        )

    def tables(self, scores: Scores, labels: np.ndarray) -> "dict[str, pd.DataFrame]":
        """Return what else there is to say of scored images with `labels` (n,), by name: by default nothing.

        A run writes each as a file of that name.
        """
        return {}

    def default_transform(self) -> Transform | None:
        """Return the geometry of a detector that is made without one, whole pictures."""
        return None

    def with_transform(self, transform: Transform) -> Self:
        """Return this detector, and what it has learned, for images in another geometry."""
        other = copy.copy(self)
        other.transform = transform
        if transform != self.transform:
            other.input_shape_ = None
        return other

    @classmethod
    def require_geometry(cls, fitted: Transform, asked: Transform) -> None:
        """Raise a `DataError` where a model that was `fitted` in one geometry cannot score in another."""

    # Helpers

    def __repr__(self) -> str:
        usual = self.transform == self.default_transform()
        return constructor_call(self, without=("device", "transform") if usual else ("device",))

    if not TYPE_CHECKING:  # or every attribute would be known to have any type

        def __getattr__(self, name: str) -> Any:
            """Raise `NotFittedError` for what `fit` learns, before it has."""
            if name.endswith("_") and not name.startswith("_") and "threshold_" not in vars(self):
                self._require_fitted()
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _check_parameters(self) -> None:
        require_all(self.constraints, self)

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)

    def _take_shape(self, batch: torch.Tensor) -> None:
        self.input_shape_ = self.input_shape_ or (batch.shape[2], batch.shape[3])

    def _require_shape(self, batch: torch.Tensor) -> None:
        """Raise a `DataError` for images of another size than those fitted on: no threshold is theirs."""
        fitted, given = self.input_shape_, (batch.shape[2], batch.shape[3])
        same_side = self.transform.whole and fitted is not None and min(fitted) == min(given)
        if fitted is not None and fitted != given and not same_side:
            raise DataError(
                f"images of {given[1]} x {given[0]} pixels for a model that was fitted on {fitted[1]} x "
                f"{fitted[0]}: its scores are for that size; predict(pictures) brings them to it"
            )

    def _require_finite(self, scores: Scores) -> None:
        """Raise a `DataError` for scores that are not: they would read as good."""
        for values in (scores.image, scores.maps):
            if values is not None and not np.isfinite(values).all():
                raise DataError(
                    f"{type(self).__name__} has no finite score for an image: its features overflow; use "
                    "precision fp32, or fit the model again"
                )

    def _no_scores(self) -> Scores:
        """Return the scores of no images."""
        maps = np.zeros((0, self.transform.size, self.transform.size), np.float32)
        return Scores(np.zeros(0, np.float32), maps if self.localises else None)
