"""What a run says of one category, as the explorer asks for it: lists, sentences, pictures, patches."""

import html
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from anomaly_lib.datasets.images import decode_ahead, read_picture
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors import load_detector
from anomaly_lib.detectors.places import PatchPlace
from anomaly_lib.errors import DataError
from anomaly_lib.evaluation.predictions import load_predictions
from anomaly_lib.evaluation.thresholds import f1_optimal_threshold
from anomaly_lib.runs.folder import Run, load_training_images
from anomaly_lib.runs.summary import load_document, summary_in
from anomaly_lib.views.panels import SIDE, Box, Shown, draw_tile
from anomaly_lib.views.plots import plot_score_histogram
from anomaly_lib.views.plots.embedded import drawn, jpeg_url
from anomaly_lib.views.plots.histogram import SCORE_IN_THRESHOLDS

ALL, MISSED, ALARMS = "all images", "missed defects", "false alarms"
"""Which images are listed."""

_NEIGHBOURS = 4
_HISTOGRAM = (8.6, 2.9)  # inches
# Pictures that are held on to: 60 MB of test images as they are shown, and training images whole.
_TEST_PICTURES, _TRAINING_PICTURES = 200, 16


class Explored:
    """The images of one row of a run.

    Attributes
    ----------
    scores
        (n,) of the test images, in units of the model's threshold, or raw where it has none above 0.
    scaled
        Whether there is one.
    thresholds
        The model's own and the F1-optimal one in that unit; nan where there is none.
    """

    def __init__(self, run: Run, row: str) -> None:
        self._folder, self._row = run.folder, row
        predictions = load_predictions(run.predictions(row))
        self.scaled = predictions.threshold > 0
        self._predictions = predictions.in_thresholds
        self._train = load_training_images(run, row)
        self._detector = load_detector(run.model(row)) if run.model(row).exists() else None
        summary = summary_in(load_document(run.folder), row, run.folder)
        self._transform: Transform | None = None if summary is None else summary.transform
        self.scores = self._predictions.imagewise_pred
        known = self._predictions.imagewise_known
        self._known = known if len(known) else np.ones(len(self.scores), bool)
        self._defective = self._predictions.imagewise_gt
        optimal = f1_optimal_threshold(self.scores[self._known], self._defective[self._known])
        self.thresholds = (self._predictions.threshold, optimal)
        self.shown = lru_cache(maxsize=_TEST_PICTURES)(self._shown)

    @property
    def start(self) -> float:
        """The model's own threshold; without one the F1-optimal one, and without any the median score."""
        candidates = (*self.thresholds, float(np.median(self.scores)))
        return next(share for share in candidates if np.isfinite(share))

    def path(self, i: int) -> Path:
        """Return the file of a test image."""
        return Path(str(self._predictions.fnames[i]))

    # Under a threshold

    def called(self, threshold: float) -> np.ndarray:
        """Return which images (n,) reach a threshold."""
        return self.scores >= np.float32(threshold)

    def counts(self, threshold: float) -> str:
        """Return its mistakes in HTML, with the shares that people ask for."""
        called, defective = self.called(threshold)[self._known], self._defective[self._known]
        found, alarms = int((called & defective).sum()), int((called & ~defective).sum())
        defects, good = int(defective.sum()), int((~defective).sum())
        recall = f"{found / defects:.0%}" if defects else "unknown"
        precision = f"{found / (found + alarms):.0%}" if found + alarms else "unknown"
        return (
            f"<b>missed {defects - found}</b> of {defects} defects, "
            f"<b>false alarms {alarms}</b> of {good} good images; recall {recall}, precision {precision}"
        )

    def listed(self, kind: str, threshold: float) -> list[tuple[str, int]]:
        """Return the images of a kind as lines and numbers, the highest scores first."""
        called = self.called(threshold)
        asked = {
            ALL: np.ones(len(called), bool),
            MISSED: self._known & self._defective & ~called,
            ALARMS: self._known & ~self._defective & called,
        }[kind]
        order = np.argsort(-self.scores, kind="stable")
        return [(f"{self.scores[i]:.2f}  {short_name(self.path(i))}", int(i)) for i in order if asked[i]]

    def sentence(self, i: int, threshold: float) -> str:
        """Return in HTML what an image is and what the threshold makes of it."""
        called = self.called(threshold)[i]
        if not self._known[i]:
            verdict = "nobody knows whether it is good"
        elif self._defective[i]:
            verdict = "a defect, found" if called else "a defect, <b>missed</b>"
        else:
            verdict = "good, and <b>a false alarm</b>" if called else "good, and called so"
        unit = "of the model's threshold" if self.scaled else "(raw score)"
        return f"{html.escape(short_name(self.path(i)))}: {self.scores[i]:.2f} {unit}; {verdict}"

    def histogram(self) -> "Histogram":
        """Return the histogram of the images of known truth."""
        return Histogram(
            self.scores[self._known], self._defective[self._known], self.thresholds, scaled=self.scaled
        )

    # One image

    def _shown(self, i: int) -> Shown:
        """Return an image as it is shown; `DataError` where its file is gone."""
        predictions, picture = self._predictions, read_picture(self.path(i))
        factor = SIDE / max(picture.size)
        small = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        return Shown(
            picture=picture.resize(small, Image.Resampling.BILINEAR, reducing_gap=2.0),
            size=picture.size,
            seen=self._seen(picture.size),
            shares=predictions.pixelwise_pred[i] if len(predictions.pixelwise_pred) else None,
            mask=predictions.masks[i] if predictions.pixelwise_known[i] else None,
        )

    def _seen(self, size: tuple[int, int]) -> Box:
        whole = (0.0, 0.0, float(size[0]), float(size[1]))
        return whole if self._transform is None else self._transform.seen(*size)

    def nearest(self, i: int, place: tuple[float, float]) -> tuple[Box, str]:
        """Return the patch at a place of an image, in its file's pixels, and in HTML the training patches.

        Raises
        ------
        AnomalyError
            When the model is not there, does not see this place, or keeps no training patches.
        """
        if self._detector is None:
            raise DataError(
                "the nearest training patches can be shown of a run of `train` that has saved its models: "
                f"there are none of {self._row} in {self._folder}"
            )
        if self._train is None:
            raise DataError(f"{self._folder} does not say what its models were fitted on: train again")
        picture = read_picture(self.path(i))
        shape = self._detector.seen_shape(*picture.size)
        image = self._detector.transform.image(picture, shape).float().div_(255)
        left, top, right, bottom = self._seen(picture.size)
        across, down = (place[0] - left) / (right - left), (place[1] - top) / (bottom - top)
        if not (0 <= across < 1 and 0 <= down < 1):
            raise DataError("the model does not see this part of the picture")
        row, column = int(down * image.shape[1]), int(across * image.shape[2])
        found = self._detector.nearest_patches(image, row, column, k=_NEIGHBOURS)
        side = found[0].side
        asked = self._box(PatchPlace(-1, row - side // 2, column - side // 2, side, 0.0), picture.size)
        tiles = [("the patch", draw_tile(picture, asked))]
        files = [self._training_file(one) for one in found]
        for one, file, other in zip(found, files, decode_ahead(_read, files, _NEIGHBOURS), strict=True):
            if isinstance(other, DataError):
                raise other
            tiles.append((short_name(file), draw_tile(other, self._box(one, other.size))))
        return asked, _tiles(tiles)

    def _training_file(self, place: PatchPlace) -> Path:
        assert self._train is not None
        if place.image >= len(self._train):
            raise DataError("the model has learned on after this run, which does not know those images")
        return self._train[place.image]

    def _box(self, place: PatchPlace, size: tuple[int, int]) -> Box:
        """Return a patch at the model's input as a box in the pixels of a picture of this size."""
        assert self._detector is not None
        height, width = self._detector.seen_shape(*size)
        left, top, right, bottom = self._seen(size)
        across, down = (right - left) / width, (bottom - top) / height
        corner = left + place.column * across, top + place.row * down
        return (*corner, corner[0] + place.side * across, corner[1] + place.side * down)


class Histogram:
    """A histogram of scores in HTML, drawn once, over which a line is moved."""

    def __init__(
        self, scores: np.ndarray, truth: np.ndarray, thresholds: tuple[float, float], *, scaled: bool
    ) -> None:
        self._picture, self._limits, self._box = "", (0.0, 1.0), (0.0, 0.0, 1.0, 1.0)
        if not len(scores):
            return
        figure = Figure(figsize=_HISTOGRAM, layout="constrained")
        named = dict(zip(("model's own", "F1-optimal"), thresholds, strict=True))
        unit = SCORE_IN_THRESHOLDS if scaled else "image score"
        ax = plot_score_histogram(
            scores,
            truth,
            {name: share for name, share in named.items() if np.isfinite(share)},
            unit=unit,
            ax=figure.subplots(),
        )
        self._picture = jpeg_url(drawn(figure))
        self._limits, self._box = ax.get_xlim(), ax.get_position().bounds  # as they are once it is drawn

    def page(self, threshold: float) -> str:
        """Return it with a line at a threshold."""
        if not self._picture:
            return "There are no test images of known truth."
        left, bottom, width, height = self._box
        low, high = self._limits
        place = 100 * (left + width * (threshold - low) / (high - low))
        line = (
            f"position:absolute; left:{place:.2f}%; top:{100 * (1 - bottom - height):.2f}%; "
            f"height:{100 * height:.2f}%; border-left:3px solid #CC79A7"
        )
        return (
            f'<div style="position:relative; width:{100 * _HISTOGRAM[0]:.0f}px; line-height:0">'
            f'<img alt="how often each image score occurs" style="width:100%" src="{self._picture}">'
            f'<div style="{line}"></div></div>'
        )


def short_name(path: Path) -> str:
    """Return the name of an image with the folder that it is in."""
    return "/".join([*path.parts[-2:-1], path.stem])


def _read(path: Path) -> Image.Image | DataError:
    try:
        return _training_picture(path)
    except DataError as error:
        return error


@lru_cache(maxsize=_TRAINING_PICTURES)
def _training_picture(path: Path) -> Image.Image:
    return read_picture(path)


def _tiles(tiles: Sequence[tuple[str, Image.Image]]) -> str:
    cells = [
        f'<figure style="margin:0; line-height:1.3"><figcaption>{html.escape(name)}</figcaption>'
        f'<img alt="" src="{jpeg_url(tile)}"></figure>'
        for name, tile in tiles
    ]
    heading = "The patch that was clicked, and the training patches nearest to it, the nearest first:"
    return f'{heading}<div style="display:flex; flex-wrap:wrap; gap:12px">{"".join(cells)}</div>'
