"""What a detector said of images, beside the truth: in memory and as one file."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anomaly_lib.errors import DataError, pass_on_lack_of_memory
from anomaly_lib.files import new_file
from anomaly_lib.reading import opened


@dataclass(frozen=True)
class Scores:
    """What a detector says of n images, raw, in the method's own unit: the larger, the more anomalous.

    Attributes
    ----------
    image
        (n,) float32.
    maps
        (n, h, w) float32 at the size of the model's input, or ``None`` from a method that does not localise.
        Of whole pictures of several shapes all maps are brought to the shape of the first picture's.
    parts
        What these scores are combined from, by name, where that is worth measuring by itself.
    """

    image: np.ndarray
    maps: np.ndarray | None
    parts: Mapping[str, "Scores"] = field(default_factory=dict)

    def of(self, chosen: np.ndarray) -> "Scores":
        """Return the scores of the images with these numbers (k,)."""
        maps = None if self.maps is None else self.maps[chosen]
        return Scores(self.image[chosen], maps, {name: part.of(chosen) for name, part in self.parts.items()})

    @classmethod
    def gathered(cls, batches: "Sequence[Scores]") -> "Scores":
        """Return the scores of several batches, at least one, as those of all their images in order."""
        maps = [batch.maps for batch in batches if batch.maps is not None]
        maps = [_in_shape(batch_maps, maps[0].shape[1:]) for batch_maps in maps]
        return cls(
            np.concatenate([batch.image for batch in batches]),
            np.concatenate(maps) if maps else None,
            {name: cls.gathered([batch.parts[name] for batch in batches]) for name in batches[0].parts},
        )


def _of_none() -> np.ndarray:
    return np.zeros(0, bool)


@dataclass(frozen=True)
class Predictions:
    """Scores, maps and truth of the n test images of one category: all that measuring and reporting need.

    The names are those under which the ``.npz`` file keeps them; ``numpy.load(file, allow_pickle=False)``
    reads it. Of the parts it keeps ``imagewise_pred_<part>`` and ``pixelwise_pred_<part>``.

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
    threshold
        The model's own image threshold, from normal images alone; nan when it has none.
    optimal_threshold
        The pixel threshold with the highest F1 over all test images with masks; it needs defects, and is nan
        before it is measured. See `anomaly_lib.evaluation.measures.measure`.
    parts
        What the scores are combined from, by name.
    imagewise_known
        (n,) bool, false where nobody knows whether an image is good; empty where all are known.
    """

    imagewise_pred: np.ndarray
    imagewise_gt: np.ndarray
    fnames: np.ndarray
    pixelwise_pred: np.ndarray
    pixelwise_gt: np.ndarray
    pixelwise_known: np.ndarray
    threshold: float
    optimal_threshold: float = math.nan
    parts: Mapping[str, Scores] = field(default_factory=dict)
    imagewise_known: np.ndarray = field(default_factory=_of_none)

    def save(self, file: Path) -> None:
        """Write the ``.npz`` file, whole or not at all."""
        arrays = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "parts"}
        for name, part in self.parts.items():
            arrays[f"imagewise_pred_{name}"] = part.image
            if part.maps is not None:
                arrays[f"pixelwise_pred_{name}"] = part.maps
        with new_file(file) as unfinished:
            np.savez(unfinished, **arrays)

    @property
    def scores(self) -> Scores:
        """The scores without the truth."""
        return Scores(
            self.imagewise_pred, self.pixelwise_pred if len(self.pixelwise_pred) else None, self.parts
        )

    @property
    def judged(self) -> "Predictions":
        """The predictions of the images of which is known whether they are good: what can be measured."""
        if not len(self.imagewise_known) or self.imagewise_known.all():
            return self
        chosen = np.flatnonzero(self.imagewise_known)
        values: dict[str, Any] = {
            one.name: getattr(self, one.name)[chosen]
            for one in fields(self)
            if isinstance(getattr(self, one.name), np.ndarray) and len(getattr(self, one.name))
        }
        return replace(self, **values, parts={name: part.of(chosen) for name, part in self.parts.items()})

    @property
    def in_thresholds(self) -> "Predictions":
        """The predictions with all scores in units of the model's own threshold, which is 1 then.

        Without a threshold above 0 they stay as they are.
        """
        unit = np.float32(self.threshold)
        if not unit > 0:
            return self
        parts = {
            name: Scores(part.image / unit, None if part.maps is None else part.maps / unit)
            for name, part in self.parts.items()
        }
        return replace(
            self,
            imagewise_pred=self.imagewise_pred / unit,
            pixelwise_pred=self.pixelwise_pred / unit,
            threshold=1.0,
            optimal_threshold=self.optimal_threshold / float(unit),
            parts=parts,
        )

    @property
    def masks(self) -> np.ndarray:
        """The masks without the channel axis: (n, h, w) bool."""
        return self.pixelwise_gt[:, 0]


def _in_shape(maps: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return maps (n, h, w) in another shape."""
    if maps.shape[1:] == shape:
        return maps
    size = (shape[1], shape[0])
    resized = [Image.fromarray(one).resize(size, Image.Resampling.BILINEAR) for one in maps]
    return np.stack([np.asarray(one) for one in resized])


def load_predictions(file: Path | str) -> Predictions:
    """Return the predictions in a ``.npz`` file of a run.

    Raises
    ------
    DataError
        When it is missing or no such file.
    """
    names = [one.name for one in fields(Predictions) if one.name != "parts"]
    file = Path(file)
    if not file.exists():
        raise DataError(f"no predictions in {file}: run `anomaly train` or `anomaly evaluate`")
    try:
        with opened(file) as stream, zipfile.ZipFile(stream) as archive:
            arrays = {name: _array(archive, name) for name in _names(archive, file.stat().st_size)}
        arrays.setdefault("imagewise_known", _of_none())  # which older files lack
        values: dict[str, Any] = {name: arrays[name] for name in names}
        for name in ("optimal_threshold", "threshold"):
            values[name] = _number(name, values[name])
        predictions = Predictions(**values, parts=_parts(arrays))
        reason = _inconsistency(predictions)
    except Exception as error:  # a damaged archive can raise almost anything
        pass_on_lack_of_memory(error)
        raise DataError(f"{file} is not a predictions file of this library: {error!r}") from None
    if reason:
        raise DataError(f"{file} is not a predictions file of this library: {reason}")
    return predictions


def _names(archive: zipfile.ZipFile, size: int) -> list[str]:
    """Return the names of the arrays in an archive of so many bytes, which are not compressed.

    Raises
    ------
    ValueError
        When a name is there twice, or the archive would unpack to more than it is.
    """
    entries = archive.infolist()
    names = [entry.filename.removesuffix(".npy") for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("an array is there twice")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("it unpacks to more than it is")
    return names


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Return an array, when its header asks for no more memory than there are bytes of it."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{name} has a header of another version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != entry.file_size - stream.tell():
            raise ValueError(f"{name} has other bytes than its shape says")
    with archive.open(entry) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _number(name: str, value: np.ndarray) -> float:
    if value.dtype.kind != "f" or value.shape != ():
        raise ValueError(f"{name} is {value.dtype} of shape {value.shape}")
    return float(value)


def _inconsistency(predictions: Predictions) -> str | None:
    """Return what is wrong with predictions that were read from a file, if anything is."""
    images = (len(predictions.imagewise_pred),)
    expected = {
        "imagewise_pred": ("f", images),
        "imagewise_gt": ("b", images),
        "fnames": ("U", images),
        "pixelwise_known": ("b", images),
        "pixelwise_gt": ("b", images + predictions.pixelwise_gt.shape[1:]),
    }
    for name, (kind, shape) in expected.items():
        array = getattr(predictions, name)
        if array.dtype.kind != kind or array.shape != shape:
            return f"{name} is {array.dtype} of shape {array.shape}"
    known = predictions.imagewise_known
    if known.dtype.kind != "b" or known.shape not in ((0,), images):
        return f"imagewise_known is {known.dtype} of shape {known.shape}"
    if predictions.pixelwise_gt.ndim != 4 or predictions.pixelwise_gt.shape[1] != 1:
        return f"pixelwise_gt is of shape {predictions.pixelwise_gt.shape}"
    for scores in (predictions.scores, *predictions.parts.values()):
        if reason := _unfit_scores(scores, images, predictions.masks.shape):
            return reason
    for flags in (predictions.imagewise_gt, predictions.pixelwise_gt, predictions.pixelwise_known, known):
        if flags.size and flags.view(np.uint8).max() > 1:  # true is 1 and nothing else, or sums go wrong
            return "a flag is neither true nor false"
    predictions.fnames.tolist()  # or it raises for what is no character
    if math.isinf(predictions.threshold) or math.isinf(predictions.optimal_threshold):
        return "a threshold is infinite"
    return None


def _unfit_scores(scores: Scores, images: tuple[int, ...], pixels: tuple[int, ...]) -> str | None:
    for values, shape in ((scores.image, images), (scores.maps, pixels)):
        if values is not None and (values.dtype.kind != "f" or values.shape != shape):
            return f"scores are {values.dtype} of shape {values.shape}"
        if values is not None and not np.isfinite(values).all():
            return "not all scores are finite"
    return None


def _parts(arrays: Mapping[str, np.ndarray]) -> dict[str, Scores]:
    """Return the parts that a file holds, in the order in which they were written."""
    images = {
        name.removeprefix("imagewise_pred_"): name for name in arrays if name.startswith("imagewise_pred_")
    }
    return {part: Scores(arrays[name], arrays.get(f"pixelwise_pred_{part}")) for part, name in images.items()}
