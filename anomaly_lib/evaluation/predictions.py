"""What a model said of a category's test images, as one file."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly_lib.errors import DataError
from anomaly_lib.files import new_file


@dataclass(frozen=True)
class Predictions:
    """Scores, maps and truth of the n test images of one category.

    The names are those under which the ``.npz`` file keeps them; ``numpy.load(file, allow_pickle=False)``
    reads it.

    Attributes
    ----------
    imagewise_pred, imagewise_gt
        (n,) float32 raw scores and (n,) bool, true for a defect.
    fnames
        (n,) paths of the images.
    pixelwise_pred, pixelwise_gt
        (n, h, w) float32 raw anomaly maps and (n, 1, h, w) bool masks; no maps, (0, 0, 0), from a method that
        does not localise.
    pixelwise_known
        (n,) bool, false where an image shows a defect but has no mask.
    optimal_threshold
        The pixel threshold with the highest F1 over all test images with known masks. It needs defects.
    threshold
        The model's own image threshold, from normal images alone.
    """

    imagewise_pred: np.ndarray
    imagewise_gt: np.ndarray
    fnames: np.ndarray
    pixelwise_pred: np.ndarray
    pixelwise_gt: np.ndarray
    pixelwise_known: np.ndarray
    optimal_threshold: float
    threshold: float

    def save(self, file: Path) -> None:
        """Write the ``.npz`` file, whole or not at all."""
        with new_file(file) as unfinished:
            np.savez(unfinished, **vars(self))

    @property
    def masks(self) -> np.ndarray:
        """The masks without the channel axis: (n, h, w) bool."""
        return self.pixelwise_gt[:, 0]


def load_predictions(file: Path | str) -> Predictions:
    """Return the predictions in a ``.npz`` file of a run.

    Raises
    ------
    DataError
        When it is missing or no such file.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in Predictions.__dataclass_fields__}
    except FileNotFoundError:
        raise DataError(f"no predictions in {file}: run `anomaly train` or `anomaly evaluate`") from None
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not a predictions file of this library: {error}") from None
    for name in ("optimal_threshold", "threshold"):
        values[name] = float(values[name])
    return Predictions(**values)
