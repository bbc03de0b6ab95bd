"""From a folder of photographs of good parts to a saved model, without a data set around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anomaly_lib.datasets import Category, read_picture
from anomaly_lib.datasets.images import decode_ahead
from anomaly_lib.datasets.listing import pictures_below
from anomaly_lib.datasets.transforms import Geometry, Transform
from anomaly_lib.detectors import Detector
from anomaly_lib.detectors.files import require_replaceable
from anomaly_lib.detectors.threshold import promise
from anomaly_lib.errors import DataError
from anomaly_lib.progress import Progress, silent
from anomaly_lib.runs.sources import MakeDetector

# Of each kind of file that was left out, so many are named.
_NAMED = 3


@dataclass(frozen=True)
class Fitted:
    """A detector, the pictures that it was fitted on, and why others were left out.

    Attributes
    ----------
    least_seen
        The smallest share of a picture that the model sees.
    """

    detector: Detector
    used: tuple[Path, ...]
    left_out: Mapping[Path, str]
    least_seen: float

    def sentences(self) -> list[str]:
        """Return what was done, for a person."""
        number = len(self.used) + len(self.left_out)
        said = [f"fitted on {len(self.used)} of {number} pictures; {self._seen_sentence()}"]
        for path, reason in list(self.left_out.items())[:_NAMED]:
            said.append(f"left out: {path}: {reason}")
        if len(self.left_out) > _NAMED:
            said.append(f"left out: {len(self.left_out) - _NAMED} more")
        return [*said, promise(self.detector)]

    def _seen_sentence(self) -> str:
        if self.least_seen > 0.995:
            return "the model sees all of them"
        return f"the model sees {self.least_seen:.0%} of each or more, the centre: the rest is not judged"


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
    used, left_out, least_seen = _readable(files, detector.transform, progress)
    if not used:
        raise DataError(f"none of the {len(files)} pictures in {good} can be read: {left_out[files[0]]}")
    category = Category(good.resolve().name, used, ())
    detector.fit(category.train_images(detector.transform, batch_size), progress)
    detector.save(model)
    return Fitted(detector, used, left_out, least_seen)


def _readable(
    files: list[Path], transform: Transform, progress: Progress
) -> tuple[tuple[Path, ...], dict[Path, str], float]:
    """Return the files that can be read, why others cannot, and the least share that is seen of one."""
    used, left_out, shares = [], {}, [1.0]
    found_sizes = decode_ahead(_size, files, ahead=16)
    for number, (path, found) in enumerate(zip(files, found_sizes, strict=True), start=1):
        progress("pictures", number, len(files))
        if isinstance(found, DataError):
            left_out[path] = str(found)
        else:
            used.append(path)
            left, top, right, bottom = transform.seen(*found)
            shares.append((right - left) * (bottom - top) / (found[0] * found[1]))
    return tuple(used), left_out, min(shares)


def _size(path: Path) -> tuple[int, int] | DataError:
    """Return the size of a picture that can be decoded, or why it cannot."""
    try:
        return read_picture(path).size
    except DataError as error:
        return error
