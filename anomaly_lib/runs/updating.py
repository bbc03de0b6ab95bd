"""A saved model that learns on, and returns to what it was before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anomaly_lib.datasets.images import ImageFiles
from anomaly_lib.detectors import Detector, load_detector
from anomaly_lib.detectors.files import PREVIOUS, copy_model, new_model_folder
from anomaly_lib.detectors.threshold import promise
from anomaly_lib.errors import DataError, ModelFileError
from anomaly_lib.progress import Progress, silent
from anomaly_lib.runs.fitting import left_out_sentences, readable_pictures


@dataclass(frozen=True)
class Updated:
    """A detector that has learned on, from which pictures, why others were left out, and how it was."""

    detector: Detector
    used: Sequence[Path]
    left_out: Mapping[Path, str]
    threshold_before: float

    def sentences(self) -> list[str]:
        """Return what was done, for a person."""
        number = len(self.used) + len(self.left_out)
        return [
            f"learned from {len(self.used)} of {number} pictures, {self.detector.images_} in all",
            *left_out_sentences(self.left_out),
            f"threshold {self.threshold_before:.6g} is now {self.detector.threshold_:.6g}",
            promise(self.detector),
        ]


def update_model(
    folder: Path,
    files: Sequence[Path],
    *,
    calibrate: bool = True,
    device: str = "auto",
    weights: str | None = None,
    batch_size: int = 8,
    progress: Progress = silent,
) -> Updated:
    """Let the model in `folder` learn from further pictures of good parts, and save it there.

    The model as it was is kept in it; see `undo_update`. `calibrate`: see `Detector.update`.

    Raises
    ------
    AnomalyError
        When there is no model, none of the pictures can be read, or the model cannot learn on.
    """
    detector = load_detector(folder, device=device, weights=weights)
    before = detector.threshold_
    used, left_out = readable_pictures(list(files), progress)
    if not used:
        reasons = list(left_out.values()) or ["there are none"]
        raise DataError(f"no pictures to learn from: {reasons[0]}")
    detector.update(ImageFiles(used, detector.transform, batch_size), progress, calibrate=calibrate)
    with new_model_folder(folder) as unfinished:
        detector.write(unfinished)
        copy_model(folder, unfinished / PREVIOUS)
    return Updated(detector, used, left_out, before)


def save_with_previous(detector: Detector, folder: Path) -> None:
    """Save over the model in `folder`, and keep what it was before its last update."""
    with new_model_folder(folder) as unfinished:
        detector.write(unfinished)
        if (folder / PREVIOUS).exists():
            copy_model(folder / PREVIOUS, unfinished / PREVIOUS)


def undo_update(folder: Path) -> None:
    """Return the model in `folder` to what it was before its last update.

    Raises
    ------
    ModelFileError
        When it has not been updated, or returned already.
    """
    if not (folder / PREVIOUS).is_dir():
        raise ModelFileError(f"nothing to undo: {folder} holds no model as it was before an update")
    with new_model_folder(folder) as unfinished:
        copy_model(folder / PREVIOUS, unfinished)
