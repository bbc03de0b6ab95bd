"""Several PatchCores, usually on different backbones, as one detector."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.base import Detector, Images, Scores, normal_threshold
from anomaly_lib.detectors.files import nan_to_none, new_folder, none_to_nan, read_model, write_model
from anomaly_lib.detectors.patchcore import PatchCore
from anomaly_lib.errors import ParameterError
from anomaly_lib.progress import Progress, silent


class Ensemble(Detector):
    """The mean of the members' scores and maps, each in units of that member's own threshold.

    The official code scales each member to [0, 1] over the test set instead, for which it needs the test set.

    Parameters
    ----------
    members
        Detectors with one and the same transform; `fit` fits them one after the other.

    Attributes
    ----------
    units_
        What each member's scores are divided by: its `threshold_`, or its `typical_distance` where it has
        none.
    """

    method: ClassVar[str] = "ensemble"
    units_: tuple[float, ...]

    def __init__(self, members: Sequence[PatchCore]) -> None:
        if not members:
            raise ParameterError("an ensemble needs at least one member")
        if len({member.transform for member in members}) > 1:
            raise ParameterError("the members of an ensemble must have the same resize and image size")
        self.members = tuple(members)
        self.transform = members[0].transform

    def fit(self, images: Images | torch.Tensor, progress: Progress = silent) -> Self:
        """Fit every member on normal `images`."""
        for member in self.members:
            member.transform = self.transform  # it may have been changed since they were made
            member.fit(images, progress)
        self._set_units()
        leave_one_out = self._mean([member.leave_one_out_ for member in self.members])
        self.threshold_ = normal_threshold(leave_one_out, self.members[0].false_alarm_rate)
        return self

    def score(self, images: Images | torch.Tensor, progress: Progress = silent) -> Scores:
        """Score images by all members."""
        self._require_fitted()
        scores = [member.score(images, progress) for member in self.members]
        maps = [score.maps for score in scores if score.maps is not None]
        return Scores(self._mean([score.image for score in scores]), self._mean(maps))

    def save(self, folder: Path) -> None:
        """Write every member into a folder of its own under `folder`."""
        self._require_fitted()
        with new_folder(Path(folder)) as unfinished:
            description = {
                "method": self.method,
                "members": len(self.members),
                "units": self.units_,
                "transform": asdict(self.transform),
                "threshold": nan_to_none(self.threshold_),
            }
            write_model(unfinished, description, {})
            for number, member in enumerate(self.members):
                member.save(unfinished / f"member_{number}")

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", weights: str | None = None) -> Self:
        """Return the ensemble in `folder`; `weights` would be the same for all members and is refused."""
        if weights is not None:
            raise ParameterError(
                "an ensemble's members have different weights: --weights cannot name one file"
            )
        description, _ = read_model(Path(folder))
        names = [f"member_{number}" for number in range(description["members"])]
        ensemble = cls([PatchCore.load(Path(folder) / name, device=device) for name in names])
        ensemble.transform = Transform(**description["transform"])
        ensemble.units_ = tuple(description["units"])
        ensemble.threshold_ = none_to_nan(description["threshold"])
        return ensemble

    @classmethod
    def of_fitted(cls, members: Sequence[PatchCore]) -> Self:
        """Return the ensemble of members that are fitted already; it has no threshold of its own."""
        ensemble = cls(members)
        ensemble._set_units()
        ensemble.threshold_ = math.nan
        return ensemble

    def _set_units(self) -> None:
        thresholds = [member.threshold_ for member in self.members]
        self.units_ = tuple(
            member.typical_distance() if math.isnan(threshold) else threshold
            for member, threshold in zip(self.members, thresholds, strict=True)
        )

    def _mean(self, of_members: Sequence[np.ndarray]) -> np.ndarray:
        scaled = [values / unit for values, unit in zip(of_members, self.units_, strict=True)]
        mean: np.ndarray = np.stack(scaled).mean(axis=0)
        return mean.astype(np.float32)
