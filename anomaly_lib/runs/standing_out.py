"""Training images whose scores stand out: maybe defects among the good parts, which set the threshold."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly_lib.datasets import read_picture
from anomaly_lib.datasets.listing import is_folder, pictures_below, pictures_in
from anomaly_lib.datasets.mvtec import GOOD
from anomaly_lib.detectors import load_detector
from anomaly_lib.errors import DataError
from anomaly_lib.evaluation.thresholds import upper_outliers
from anomaly_lib.progress import Progress, silent
from anomaly_lib.runs.fitting import readable_pictures
from anomaly_lib.runs.pages import embedded_picture, write_page


@dataclass(frozen=True)
class StandingOut:
    """A training image, and its score as a multiple of the median of all."""

    path: Path
    times_median: float

    def sentence(self) -> str:
        """Return it for a person."""
        return (
            f"{self.path} scores {self.times_median:.2f} times the median of the training pictures, far "
            "above the others: a defect? Remove it, or fit with `robust`"
        )


def standing_out(
    model: Path, path: Path, *, weights: str | None = None, progress: Progress = silent
) -> list[StandingOut]:
    """Return the images that a model was fitted on whose scores are outliers, the highest first.

    `path` is the folder of photographs, or the category, that it was fitted on. The scores are those that
    the threshold is from, each of a model that did not see the image; what is an outlier is said by
    `anomaly_lib.evaluation.thresholds.upper_outliers`.

    Raises
    ------
    DataError
        When the model was fitted on another number of images, or does not say which its scores are of.
    """
    detector = load_detector(model, device="cpu", weights=weights)
    files = _fitted_on(path, progress)
    numbers, scores = detector.calibration_of_, detector.calibration_
    if not len(numbers) or numbers.min() < 0:
        raise DataError(f"the model in {model} does not say which pictures its scores are of: fit it again")
    if detector.images_ != len(files):
        raise DataError(
            f"the model in {model} was fitted on {detector.images_} pictures and {path} has {len(files)}: "
            "give the folder that it was fitted on"
        )
    outlying = np.flatnonzero(upper_outliers(scores))
    order = outlying[np.argsort(-scores[outlying], kind="stable")]
    return [StandingOut(files[numbers[i]], float(scores[i] / np.median(scores))) for i in order]


def write_standing_out(found: Sequence[StandingOut], page: Path) -> None:
    """Write a page of HTML with the pictures, that needs no other file."""
    parts = ["<h1>Training pictures that stand out</h1>"]
    if not found:
        parts.append("<p>None does.</p>")
    for one in found:
        parts.append(f"<h3>{html.escape(str(one.path))}</h3><p>{one.times_median:.2f} times the median</p>")
        parts.append(embedded_picture(read_picture(one.path), str(one.path)))
    write_page("Training pictures that stand out", parts, page)


def _fitted_on(path: Path, progress: Progress) -> Sequence[Path]:
    """Return the images that a detector would be fitted on, in its order."""
    if is_folder(path / "train"):
        return pictures_in(path / "train" / GOOD)
    return readable_pictures(pictures_below(path), progress)[0]
