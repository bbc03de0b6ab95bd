"""From a folder of photographs of good parts to a saved model, without a data set around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anomaly_lib.datasets import Category, read_picture
from anomaly_lib.datasets.images import decode_ahead
from anomaly_lib.datasets.listing import pictures_below
from anomaly_lib.datasets.transforms import Geometry
from anomaly_lib.detectors import Detector
from anomaly_lib.detectors.files import require_replaceable
from anomaly_lib.errors import DataError
from anomaly_lib.progress import Progress, silent
from anomaly_lib.runs.sources import MakeDetector
from anomaly_lib.runs.summary import Summary

# Of each kind of file that was left out, so many are named.
_NAMED = 3


@dataclass(frozen=True)
class Fitted:
    """A detector, the pictures that it was fitted on, and why others were left out.

    Attributes
    ----------
    summary
        What was done with them.
    """

    detector: Detector
    used: tuple[Path, ...]
    left_out: Mapping[Path, str]
    summary: Summary

    def sentences(self) -> list[str]:
        """Return what was done, for a person."""
        number = len(self.used) + len(self.left_out)
        said = [f"fitted on {len(self.used)} of {number} pictures"]
        return said + left_out_sentences(self.left_out) + self.summary.sentences()[1:]


def fit_folder(
    good: Path,
    model: Path,
    make_detector: MakeDetector,
    geometry: Geometry,
    *,
    batch_size: int = 8,
    progress: Progress = silent,
) -> Fitted:
    """Fit a new detector on all pictures of good parts below a folder, and save it.

    A picture that cannot be read is left out.

    Raises
    ------
    AnomalyError
        When there are no pictures, the options make no sense, or there is anything but a model where it is to
        be saved.
    """
    require_replaceable(model)
    files = pictures_below(good)
    if not files:
        raise DataError(f"there are no pictures in {good}: give a folder of photographs of good parts")
    # The name is that of the folder, wherever it is called from.
    detector = make_detector(Category(good.resolve().name, tuple(files), ()), geometry)
    used, left_out = readable_pictures(files, progress)
    if not used:
        raise DataError(f"none of the {len(files)} pictures in {good} can be read: {left_out[files[0]]}")
    category = Category(good.resolve().name, used, ())
    detector.fit(category.train_images(detector.transform, batch_size), progress)
    detector.save(model)
    return Fitted(detector, used, left_out, Summary.of(detector, used))


def left_out_sentences(left_out: Mapping[Path, str]) -> list[str]:
    """Return which pictures were left out and why, for a person."""
    said = [f"left out: {path}: {reason}" for path, reason in list(left_out.items())[:_NAMED]]
    return said + ([f"left out: {len(left_out) - _NAMED} more"] if len(left_out) > _NAMED else [])


def readable_pictures(files: list[Path], progress: Progress) -> tuple[tuple[Path, ...], dict[Path, str]]:
    """Return the files that can be read, and why others cannot."""
    used, left_out = [], {}
    for number, (path, found) in enumerate(zip(files, decode_ahead(_size, files, 16), strict=True), start=1):
        progress("pictures", number, len(files))
        if isinstance(found, DataError):
            left_out[path] = str(found)
        else:
            used.append(path)
    return tuple(used), left_out


def _size(path: Path) -> tuple[int, int] | DataError:
    """Return the size of a picture that can be decoded, or why it cannot."""
    try:
        return read_picture(path).size
    except DataError as error:
        return error
