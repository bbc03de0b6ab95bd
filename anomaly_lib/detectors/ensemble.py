"""Several PatchCores, usually on different backbones, as one detector."""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.base import Detector
from anomaly_lib.detectors.files import SavedTensors, damage_named, read_model
from anomaly_lib.detectors.parameters import Constraint, Each, Interval, Whole
from anomaly_lib.detectors.patchcore import PatchCore
from anomaly_lib.detectors.places import PatchPlace
from anomaly_lib.detectors.sources import Images
from anomaly_lib.detectors.watch import Watch
from anomaly_lib.errors import DataError, ModelFileError, ParameterError
from anomaly_lib.evaluation.predictions import Scores
from anomaly_lib.progress import Progress

_MOST_MEMBERS = 100

# Below, dividing by it overflows in float32.
_SMALLEST_UNIT = 1e-30


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
        What each member's scores are divided by: its `threshold_`, or its memory bank's typical distance
        where it has none.

    Raises
    ------
    ParameterError
        When there is no member, or their transforms differ.
    """

    method: ClassVar[str] = "ensemble"
    saved: ClassVar[Mapping[str, Constraint]] = {
        **Detector.saved,
        "members": Whole(1, _MOST_MEMBERS),
        "units": Each(Interval(_SMALLEST_UNIT)),
    }
    unsaved: ClassVar[frozenset[str]] = frozenset({"members"})  # each is a model of its own
    units_: tuple[float, ...]

    def __init__(self, members: Sequence[PatchCore]) -> None:
        if not members:
            raise ParameterError("an ensemble needs at least one member")
        if len({member.transform for member in members}) > 1:
            raise ParameterError("the members of an ensemble must have the same resize and image size")
        self.members = tuple(members)
        self.transform = members[0].transform
        self.device = members[0].device
        self.false_alarm_rate, self.robust = members[0].false_alarm_rate, members[0].robust

    def learn(self, images: Images | torch.Tensor, progress: Progress, watch: Watch) -> np.ndarray:
        """Fit every member on normal `images`."""
        scores = [member.fit_scores(images, progress, watch) for member in self.members]
        self._set_units()
        return self._mean([of_member for of_member in scores if of_member is not None])

    @property
    def least_images(self) -> int:
        """How many images its members have learned from at least."""
        return max(member.images_ for member in self.members)

    def learn_more(self, images: Images | torch.Tensor, calibrate: bool, progress: Progress) -> np.ndarray:
        """Update every member; scores stay in the same units."""
        self.members = tuple(copy.copy(member) for member in self.members)
        scores = []
        for member in self.members:
            before = len(member.calibration_)
            member.update(images, progress, calibrate=calibrate)
            own = np.full(len(images), np.nan, np.float32)
            own[member.calibration_of_[before:] - member.images_ + len(images)] = member.calibration_[before:]
            scores.append(own)
        return self._mean(scores)

    def score_batch(self, images: torch.Tensor) -> Scores:
        """Score images by all members."""
        scores = [member.score_batch(images) for member in self.members]
        maps = [score.maps for score in scores if score.maps is not None]
        return Scores(self._mean([score.image for score in scores]), self._mean(maps))

    def nearest_patches(self, image: torch.Tensor, row: int, column: int, k: int = 5) -> list[PatchPlace]:
        """Return the `k` training patches that the first member finds nearest."""
        return self.members[0].nearest_patches(image, row, column, k)

    def set_false_alarm_rate(self, rate: float) -> Self:
        """Set the thresholds of the ensemble and its members anew; scores stay in the same units."""
        super().set_false_alarm_rate(rate)
        for member in self.members:
            member.set_false_alarm_rate(rate)
        return self

    def with_transform(self, transform: Transform) -> Self:
        """Return this ensemble, and what it has learned, for images in another geometry."""
        other = super().with_transform(transform)
        other.members = tuple(member.with_transform(transform) for member in self.members)
        return other

    def write(self, folder: Path) -> None:
        """Write every member into a folder of its own in `folder`."""
        super().write(folder)
        for number, member in enumerate(self.members):
            member.save(folder / f"member_{number}")

    def description(self) -> dict[str, Any]:
        """Return what ``model.json`` says."""
        return super().description() | {"members": len(self.members), "units": self.units_}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return nothing: what was learned is the members'."""
        return {}

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", weights: str | None = None) -> Self:
        """Return the ensemble in `folder`; `weights` would be the same for all members and is refused."""
        if weights is not None:
            raise ParameterError("an ensemble's members have different weights: omit `weights`")
        folder = Path(folder)
        description, tensors = read_model(folder, cls.saved)
        with damage_named(folder):
            if description["method"] != cls.method or description["parameters"]:
                raise ValueError("it is no ensemble")
            members = [_member(folder, number, device) for number in range(description["members"])]
            ensemble = cls(members)
            if Transform(**description["transform"]) != ensemble.transform:
                raise ValueError("its members have another transform")
        ensemble.restore(tensors, description, folder)
        ensemble.restore_calibration(tensors, description)
        tensors.require_empty()
        return ensemble

    def restore(self, tensors: SavedTensors, description: Mapping[str, Any], folder: Path) -> None:
        """Take over what `description` says of the members' units."""
        if len(description["units"]) != len(self.members):
            raise ModelFileError(f"the ensemble in {folder} is damaged (units): train it again")
        self.units_ = tuple(map(float, description["units"]))

    @classmethod
    def of_fitted(cls, members: Sequence[PatchCore]) -> Self:
        """Return the ensemble of members that are fitted already; it has no threshold of its own."""
        ensemble = cls(members)
        ensemble._set_units()
        return ensemble._calibrate(None)

    def _set_units(self) -> None:
        units = []
        for member in self.members:
            unknown = math.isnan(member.threshold_)
            units.append(member.memory_bank_.typical_distance() if unknown else member.threshold_)
            if not _SMALLEST_UNIT < units[-1] < math.inf:
                raise DataError(
                    f"the member on {member.backbone} has no unit for its scores, since its normal patches "
                    "are all the same or a single one: give more images, or a larger coreset"
                )
        self.units_ = tuple(units)

    def _mean(self, of_members: Sequence[np.ndarray]) -> np.ndarray:
        scaled = [values / unit for values, unit in zip(of_members, self.units_, strict=True)]
        mean: np.ndarray = np.stack(scaled).mean(axis=0)
        return mean.astype(np.float32)


def _member(folder: Path, number: int, device: str) -> PatchCore:
    """Return a member of the ensemble in `folder`, which holds it itself."""
    place = folder / f"member_{number}"
    if place.resolve() != folder.resolve() / place.name:
        raise ModelFileError(f"{place} is a link to another place: copy the model with what it links to")
    return PatchCore.load(place, device=device)
