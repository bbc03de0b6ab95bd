"""What detectors share of saving and loading; the files are `anomaly_lib.detectors.files`'s."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.files import (
    SAVED,
    SavedTensors,
    damage_named,
    nan_to_none,
    new_model_folder,
    none_to_nan,
    read_model,
    write_model,
)
from anomaly_lib.detectors.parameters import Constraint, parameter_names
from anomaly_lib.errors import ModelFileError, NotFittedError
from anomaly_lib.networks.devices import pick_device


class Persistent(ABC):
    """A detector as far as its model file goes; the attributes are those of `Detector`."""

    method: ClassVar[str]
    saved: ClassVar[Mapping[str, Constraint]] = SAVED
    unsaved: ClassVar[frozenset[str]] = frozenset({"transform", "device"})
    transform: Transform
    input_shape_: tuple[int, int] | None = None
    images_: int = 0
    calibration_: np.ndarray
    calibration_of_: np.ndarray
    threshold_: float

    @property
    def fitted(self) -> bool:
        """Whether `fit` has been called or a fitted model loaded."""
        return "threshold_" in vars(self)

    @property
    def lowest_score(self) -> float:
        """The lowest score that an image can have: 0 of a distance."""
        return 0.0

    @property
    def least_images(self) -> int:
        """How many images the model has learned from at least, as far as its tensors tell.

        Models of formats before 3 do not say; what is learned on takes numbers from there on.
        """
        return 0

    def save(self, folder: Path) -> None:
        """Write the fitted model to `folder`; `anomaly_lib.load_detector` reads it."""
        self._require_fitted()
        with new_model_folder(Path(folder)) as unfinished:
            self.write(unfinished)

    def write(self, folder: Path) -> None:
        """Write the files of the fitted model into the existing `folder`."""
        calibration = {
            "calibration": torch.from_numpy(np.asarray(self.calibration_, np.float32)),
            "calibration_of": torch.from_numpy(np.asarray(self.calibration_of_, np.int64)),
        }
        write_model(folder, self.description(), {**self.tensors(), **calibration})

    def description(self) -> dict[str, Any]:
        """Return what ``model.json`` says of the fitted model."""
        return {
            "method": self.method,
            "parameters": self.parameters(),
            "transform": asdict(self.transform),
            "input_shape": self.input_shape_,
            "images": self.images_,
            "threshold": nan_to_none(self.threshold_),
        }

    def parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters that are saved: the constructor's, but for `unsaved`."""
        return {name: getattr(self, name) for name in parameter_names(type(self)) if name not in self.unsaved}

    @abstractmethod
    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what `fit` learned, by name, for ``model.safetensors``."""

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", weights: str | None = None) -> Self:
        """Return the model saved in `folder`; scores are the same to the bit on the same machine.

        `weights` is a file that takes the place of the one that the model names.
        """
        pick_device(device)  # what is wrong with it is none of the model's damage
        description, tensors = read_model(Path(folder), cls.saved)
        with damage_named(folder):
            if description["method"] != cls.method:
                raise ValueError(f"it is of the method {description['method']!r}")
            if description["format"] < 3 and "robust" in parameter_names(cls):
                description["parameters"].setdefault("robust", False)
            saved = dict.fromkeys(name for name in parameter_names(cls) if name not in cls.unsaved)
            if odd := sorted(set(saved) ^ set(description["parameters"])):
                raise ValueError(f"its parameter {odd[0]}")
            parameters: dict[str, Any] = {
                **description["parameters"],
                **({} if weights is None else {"weights": weights}),
                "transform": Transform(**description["transform"]),
                "device": device,
            }
            detector = cls(**parameters)
        detector.restore(tensors, description, Path(folder))
        detector.restore_calibration(tensors, description)
        tensors.require_empty()
        return detector

    def restore_calibration(self, tensors: SavedTensors, description: Mapping[str, Any]) -> None:
        """Take over `calibration_`, which format 1 did not have, and `threshold_`."""
        absent = description["format"] == 1 and "calibration" not in tensors.names()
        scores = torch.empty(0) if absent else tensors.take("calibration", None)
        if (scores < self.lowest_score).any():
            raise ModelFileError("the model's calibration has negative scores: train it again")
        self.calibration_ = scores.numpy()
        self.calibration_of_ = np.full(len(scores), -1)
        if description["format"] >= 3:
            self.calibration_of_ = tensors.take("calibration_of", len(scores), dtype=torch.int64).numpy()
        if len(scores) and self.calibration_of_.min() < -1:
            raise ModelFileError("the model's calibration is of images with negative numbers: train it again")
        shape = description["input_shape"]
        self.input_shape_ = None if shape is None else (shape[0], shape[1])
        self.images_ = description["images"] or self.least_images
        if len(scores) and self.calibration_of_.max() >= self.images_:
            raise ModelFileError("the model's calibration is of images that it has not seen: train it again")
        self.threshold_ = none_to_nan(description["threshold"])

    @abstractmethod
    def restore(self, tensors: SavedTensors, description: Mapping[str, Any], folder: Path) -> None:
        """Take over what `tensors` returned, as read from `folder` with the model's `description`."""

    def _require_fitted(self) -> None:
        if not self.fitted:
            raise NotFittedError(
                f"this {type(self).__name__} has learned nothing yet: call fit(images) first"
            )
