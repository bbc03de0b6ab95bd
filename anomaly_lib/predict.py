"""One picture in, one answer out, in the picture's own pixels."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from anomaly_lib.datasets.images import decode_ahead, read_picture
from anomaly_lib.datasets.pixels import to_rgb
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import DataError
from anomaly_lib.evaluation.predictions import Scores
from anomaly_lib.evaluation.thresholds import conformal_p_values, verdict

Picture = str | Path | np.ndarray | Image.Image
"""A file, an array as a camera gives it, or a picture of Pillow's."""

# Shares of a picture that the crop leaves out and that nobody needs to hear of.
_HARDLY_ANYTHING = 0.005

log = logging.getLogger(__name__)


class Scorer(Protocol):
    """What is asked of a fitted detector."""

    transform: Transform
    threshold_: float

    @property
    def normal_scores(self) -> np.ndarray:
        """The scores (n,) that the threshold is from."""

    def score(self, images: torch.Tensor) -> Scores:
        """Return the scores of images (n, 3, h, w) in [0, 1]."""


@dataclass(frozen=True)
class Answer:
    """What a detector says of one picture.

    Attributes
    ----------
    path
        The file, or ``None`` of a picture that came from none.
    label
        "good", "anomalous", or "no threshold" of a model without one.
    score
        Raw, in the method's own unit.
    threshold
        The model's: a picture whose score reaches it is anomalous.
    p_value
        How likely a good picture is to score as high: see
        `anomaly_lib.evaluation.thresholds.conformal_p_values`.
    size
        (width, height) of the picture, upright, in pixels.
    seen
        Left, top, right and bottom of what the model saw of it, in its pixels.
    input_map
        (h, w) float32 anomaly map at the model's input, or ``None`` from a method that makes none.
    """

    path: Path | None
    label: str
    score: float
    threshold: float
    p_value: float
    size: tuple[int, int]
    seen: tuple[float, float, float, float]
    input_map: np.ndarray | None

    @property
    def share_of_threshold(self) -> float:
        """The score in units of the threshold, 1 at it; nan without a threshold above 0."""
        return self.score / self.threshold if self.threshold > 0 else math.nan

    @property
    def seen_share(self) -> float:
        """The share of the picture that the model saw."""
        left, top, right, bottom = self.seen
        return (right - left) * (bottom - top) / (self.size[0] * self.size[1])

    @cached_property
    def map(self) -> np.ndarray | None:
        """(height, width) float32: the raw map in the picture's pixels; nan where nothing was seen."""
        if self.input_map is None:
            return None
        width, height = self.size
        left, top, right, bottom = (round(edge) for edge in self.seen)
        pixels = np.full((height, width), np.nan, np.float32)
        pixels[top:bottom, left:right] = _enlarged(self.input_map, self.seen, (left, top, right, bottom))
        return pixels

    @property
    def mask(self) -> np.ndarray | None:
        """(height, width) bool: where the map reaches the threshold, and nowhere without one."""
        return None if self.map is None else self.map >= self.threshold


class _Prepared(NamedTuple):
    """A picture as a model takes it: (3, h, w) uint8."""

    path: Path | None
    size: tuple[int, int]
    pixels: torch.Tensor


def predict(detector: Scorer, pictures: Picture | Iterable[Picture]) -> Answer | list[Answer]:
    """Return what a fitted detector says of a picture, or a list of answers for several.

    Arrays are (h, w) or (h, w, 1) grey, uint8 or uint16, or (h, w, 3) uint8 in the order red, green, blue.
    (OpenCV has blue first: ``array[..., ::-1]``.)

    Raises
    ------
    DataError
        When a picture cannot be read, or an array is none of these.
    """
    if isinstance(pictures, str | Path | np.ndarray | Image.Image):
        return _all_answered(detector, [pictures])[0]
    if isinstance(pictures, torch.Tensor):
        raise DataError("tensors are scored by score(images): a picture is a path, an array or Pillow's")
    return _all_answered(detector, pictures)


def _all_answered(detector: Scorer, pictures: Iterable[Picture]) -> list[Answer]:
    found = []
    for answer in answers(detector, pictures):
        if isinstance(answer, DataError):
            raise answer
        found.append(answer)
    if sentence := unseen_sentence(found):
        log.warning(sentence)
    return found


def unseen_sentence(of_pictures: Iterable[Answer]) -> str | None:
    """Return what is to be said of pictures of which the model does not see all."""
    return unseen_sentence_of(1 - min((answer.seen_share for answer in of_pictures), default=1.0))


def unseen_sentence_of(unseen: float) -> str | None:
    """Return what is to be said of a share of a picture that the model does not see, if anything is."""
    if unseen < _HARDLY_ANYTHING:
        return None
    return f"the model's crop leaves out up to {unseen:.0%} of a picture: what lies there is not judged"


def answers(
    detector: Scorer, pictures: Iterable[Picture], batch_size: int = 8
) -> Iterator[Answer | DataError]:
    """Yield, in order, what a detector says of each picture, or why it cannot be read.

    They are decoded ahead on all cores and scored so many at a time; what was answered is not held on to.
    """
    waiting: list[_Prepared] = []
    for one in decode_ahead(partial(_prepared, detector.transform), pictures, ahead=2 * batch_size):
        full = len(waiting) == batch_size
        if waiting and (full or isinstance(one, DataError) or one.pixels.shape != waiting[0].pixels.shape):
            yield from _answered(detector, waiting)
            waiting = []
        if isinstance(one, DataError):
            yield one
        else:
            waiting.append(one)
    if waiting:
        yield from _answered(detector, waiting)


def _prepared(transform: Transform, picture: Picture) -> _Prepared | DataError:
    path = Path(picture) if isinstance(picture, str | Path) else None
    try:
        rgb = _rgb(picture)
        return _Prepared(path, rgb.size, transform.image(rgb))
    except DataError as error:
        return error


def _rgb(picture: Picture) -> Image.Image:
    """Return a picture of any kind upright and in RGB."""
    if isinstance(picture, str | Path):
        return read_picture(Path(picture))
    if isinstance(picture, np.ndarray):
        return _rgb_of_array(picture)
    if not isinstance(picture, Image.Image):
        raise DataError(
            f"a picture is a path, an array (h, w, 3) or one of Pillow's, not {type(picture).__name__}"
        )
    try:
        return to_rgb(picture, Path("a picture"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot use the picture: {error}") from None


def _rgb_of_array(pixels: np.ndarray) -> Image.Image:
    grey = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    fits = (grey.ndim == 2 and grey.dtype in (np.uint8, np.uint16)) or (
        grey.ndim == 3 and grey.shape[2] == 3 and grey.dtype == np.uint8
    )
    if not fits or not grey.size:
        raise DataError(
            f"an array of {pixels.dtype} and shape {pixels.shape} is no picture: give (h, w, 3) uint8 in the "
            "order red, green, blue, or (h, w) grey, uint8 or uint16; several pictures as a list"
        )
    return to_rgb(Image.fromarray(np.ascontiguousarray(grey)), Path("an array"))


def _answered(detector: Scorer, prepared: Sequence[_Prepared]) -> Iterator[Answer]:
    scores = detector.score(torch.stack([one.pixels for one in prepared]).float().div_(255))
    pictures = [(one.path, one.size) for one in prepared]
    yield from answers_of(scores, pictures, detector.transform, detector.threshold_, detector.normal_scores)


def answers_of(
    scores: Scores,
    pictures: Sequence[tuple[Path | None, tuple[int, int]]],
    transform: Transform,
    threshold: float,
    normal_scores: Sequence[float] | np.ndarray = (),
) -> list[Answer]:
    """Return what the scores of some `pictures`, given with path and size, mean to the detector they are of.

    `normal_scores` are those that its threshold is from; without them there are no p-values.
    """
    p_values = conformal_p_values(scores.image, normal_scores)
    return [
        Answer(
            path=path,
            label=verdict(scores.image[i], threshold),
            score=float(scores.image[i]),
            threshold=threshold,
            p_value=float(p_values[i]),
            size=size,
            seen=transform.seen(*size),
            input_map=None if scores.maps is None else scores.maps[i].copy(),
        )
        for i, (path, size) in enumerate(pictures)
    ]


def _enlarged(
    input_map: np.ndarray, seen: tuple[float, float, float, float], window: tuple[int, int, int, int]
) -> np.ndarray:
    """Return a map (h, w) of what was `seen`, in the whole pixels of a `window` that rounds it."""
    height, width = input_map.shape
    left, top, right, bottom = seen
    across, down = width / (right - left), height / (bottom - top)
    box = (
        max((window[0] - left) * across, 0),
        max((window[1] - top) * down, 0),
        min((window[2] - left) * across, width),
        min((window[3] - top) * down, height),
    )
    size = (window[2] - window[0], window[3] - window[1])
    return np.asarray(Image.fromarray(input_map).resize(size, Image.Resampling.BILINEAR, box))
