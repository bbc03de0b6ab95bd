"""Runs: load data, fit, score, measure, save; and the folder that a run leaves behind.

A run of `train` is ``RESULTS/<log_project>/<log_group>``, one of `evaluate` is ``RESULTS``, with ``_0``,
``_1`` ... appended when that exists. In it::

    results.csv                             a row for each category and their mean
    sigma.csv                               what the detector tells besides, of Gaussian
    run.json                                arguments, seed, versions, seconds, peak memory
    predictions/<dataset>_<category>.npz    scores and maps of every test image
    models/<dataset>_<category>/            the fitted models, when asked for
    segmentation_images/<dataset>_<category>/*.png                  likewise
    training/<dataset>_<category>.csv       losses of every epoch, of methods that train in epochs
"""

import json
import logging
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_lib.datasets import Category, find_categories, read_category, read_picture
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors import Detector, Scores
from anomaly_lib.errors import DataError, ParameterError
from anomaly_lib.evaluation import metrics
from anomaly_lib.evaluation.predictions import Predictions
from anomaly_lib.evaluation.thresholds import f1_optimal_threshold
from anomaly_lib.files import new_file
from anomaly_lib.progress import Progress, silent
from anomaly_lib.runs.tensorboard import write_tensorboard
from anomaly_lib.runs.training_log import TrainingLog
from anomaly_lib.views.plots import map_range, save_segmentation_image

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

RESULT_COLUMNS = (
    # The official PatchCore's, in its order
    "instance_auroc",
    "full_pixel_auroc",
    "anomaly_pixel_auroc",
    # ours
    "aupro",
    "instance_average_precision",
    "instance_f1_max",
    "instance_balanced_accuracy",
    "pixel_average_precision",
    "pixel_f1_max",
)
_VERSIONS = ("anomaly_lib", "torch", "torchvision", "timm", "numpy", "pillow")


@dataclass(frozen=True)
class DataChoice:
    """Which images a run works on, and how they are brought to size.

    `name` is the prefix of rows and files; no `categories` means all that are found; `resize` and `imagesize`
    override the detector's own transform; `train_share` of the training images are used. `contamination` is
    the share of the anomalous test images that are trained on as if they were good, drawn by `seed`; they are
    not tested on, in evaluations neither.
    """

    root: Path
    categories: Sequence[str] = ()
    name: str = "mvtec"
    resize: int | None = None
    imagesize: int | None = None
    batch_size: int = 8
    train_share: float = 1.0
    contamination: float = 0.0
    seed: int = 0

    def read(self) -> list[Category]:
        """Return the categories, each checked before any work begins."""
        names = self.categories or find_categories(self.root)
        if not names:
            raise DataError(f"no category in {self.root}: it holds no folder with train/good")
        categories = [_shortened(read_category(self.root, name), self.train_share) for name in names]
        return [contaminated(category, self.contamination, self.seed) for category in categories]

    def row(self, category: Category) -> str:
        """Return the name of the category's row and files."""
        return f"{self.name}_{category.name}"


@dataclass(frozen=True)
class Saving:
    """What a run keeps beside its results and predictions."""

    models: bool = False
    segmentation_images: bool = False
    tensorboard: bool = False


@dataclass
class Run:
    """A run and its folder; `results` grows by a row with every category."""

    folder: Path
    seed: int
    arguments: Sequence[str]
    saving: Saving
    results: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    tables: dict[str, dict[str, pd.DataFrame]] = field(default_factory=dict)

    @contextmanager
    def timed(self, row: str, stage: str) -> Iterator[None]:
        """Note the seconds that the block takes as those of `stage`."""
        start = time.perf_counter()
        yield
        self.seconds.setdefault(row, {})[stage] = round(time.perf_counter() - start, 3)

    def write(self) -> None:
        """Write results.csv and run.json as they are now, so that an interrupted run keeps what it has."""
        with new_file(self.folder / "results.csv") as file:
            self.table().to_csv(file, index_label="Row Names")
        for name, tables in self.tables.items():
            with new_file(self.folder / f"{name}.csv") as file:
                pd.concat(tables, names=["Row Names"]).droplevel(1).to_csv(file)
        document = {
            "arguments": list(self.arguments),
            "seed": self.seed,
            "seconds": self.seconds,
            "peak_memory_mb": _peak_memory_mb(),
            "python": platform.python_version(),
            "versions": {package: version(package) for package in _VERSIONS},
        }
        with new_file(self.folder / "run.json") as file:
            file.write_text(json.dumps(document, indent=2) + "\n")

    def table(self) -> pd.DataFrame:
        """Return the results, a row for each category, and last their mean over the cells that are known."""
        table = pd.DataFrame.from_dict(self.results, orient="index")
        table.loc["Mean"] = table.mean()
        return table.rename_axis("Row Names")


def train(
    results: Path,
    make_detector: Callable[[], Detector],
    data: DataChoice,
    *,
    log_project: str = "project",
    log_group: str = "group",
    seed: int = 0,
    saving: Saving = Saving(),
    arguments: Sequence[str] = (),
    progress: Progress = silent,
) -> Run:
    """Fit a new detector on each category, evaluate it, and return the run.

    Raises
    ------
    AnomalyError
        When something in the data or the options is wrong; before any work begins where it can be known.
    """
    categories = data.read()
    # Wrong options are found out here, before the folder is made.
    make_detector().transform.override(data.resize, data.imagesize)
    run = Run(new_run_folder(results / log_project / log_group), seed, arguments, saving)
    for category in categories:
        detector = make_detector()
        detector.transform = detector.transform.override(data.resize, data.imagesize)
        _fit(run, detector, category, data, progress)
        if saving.models:
            detector.save(run.folder / "models" / data.row(category))
        _evaluate_category(run, detector, category, data, progress)
    return run


def evaluate(
    results: Path,
    load_detectors: Sequence[Callable[[], Detector]],
    data: DataChoice,
    *,
    seed: int = 0,
    saving: Saving = Saving(),
    arguments: Sequence[str] = (),
    progress: Progress = silent,
) -> Run:
    """Evaluate saved detectors, one for each category or one for all, and return the run.

    A detector that comes unfitted (an encoder of Patch SVDD without its memory banks) is fitted first.

    Raises
    ------
    AnomalyError
        When something in the data, the models or the options is wrong.
    """
    categories = data.read()
    if len(load_detectors) not in (1, len(categories)):
        raise ParameterError(
            f"{len(load_detectors)} models for {len(categories)} categories: give one model for each, in the "
            "same order, or one for all"
        )
    loaders = load_detectors if len(load_detectors) > 1 else [load_detectors[0]] * len(categories)
    # What the first says of the options is found out here, before the folder is made.
    _override_transform(load_detectors[0](), data)
    run = Run(new_run_folder(results), seed, arguments, saving)
    for category, load in zip(categories, loaders, strict=True):
        detector = load()
        before = detector.transform
        _override_transform(detector, data)
        now = detector.transform
        if not detector.fitted:
            _fit(run, detector, category, data, progress)
        elif now != before:
            log.warning(
                "the model of %s was fitted at resize %d and image size %d and is evaluated at %d and %d",
                *(category.name, before.resize, before.size, now.resize, now.size),
            )
        _evaluate_category(run, detector, category, data, progress)
    return run


def new_run_folder(wanted: Path) -> Path:
    """Make and return `wanted`, or with ``_0``, ``_1`` ... appended the first that does not exist."""
    number = -1
    while True:
        folder = wanted if number < 0 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise DataError(
                f"cannot write results to {folder}: {error.strerror}; choose another folder"
            ) from None
        else:
            return folder


def measure(scores: Scores, masks: np.ndarray, category: Category, threshold: float) -> dict[str, float]:
    """Return the metrics of `RESULT_COLUMNS`, then the AUROCs of the scores' parts.

    Pixel metrics are over the images whose true defect area is known; nan where the category has nothing to
    tell a metric by.
    """
    row = dict.fromkeys(RESULT_COLUMNS, math.nan)
    labels, known = category.labels, category.has_mask
    row["instance_auroc"] = metrics.auroc(scores.image, labels)
    row["instance_average_precision"] = metrics.average_precision(scores.image, labels)
    row["instance_f1_max"] = metrics.f1_max(scores.image, labels)
    row["instance_balanced_accuracy"] = metrics.balanced_accuracy(scores.image, labels, threshold)
    for name, part in scores.parts.items():
        row |= aurocs(part, masks, category, f"_{name}")
    if not (labels.any() and not labels.all()):
        missing = "defects" if not labels.any() else "good images"
        log.warning("%s has no test images of %s: its image metrics are empty", category.name, missing)
    if scores.maps is None or not masks[known].any():
        log.warning("%s has no masks to compare maps with: its pixel metrics are empty", category.name)
        return row
    pixels = metrics.pixel_metrics(scores.maps[known], masks[known])
    row["full_pixel_auroc"] = pixels.full_pixel_auroc
    row["anomaly_pixel_auroc"] = pixels.anomaly_pixel_auroc
    row["aupro"] = pixels.aupro
    row["pixel_average_precision"] = pixels.average_precision
    row["pixel_f1_max"] = pixels.f1_max
    return row


def aurocs(scores: Scores, masks: np.ndarray, category: Category, suffix: str = "") -> dict[str, float]:
    """Return ``instance_auroc``, with maps and masks ``full_pixel_auroc``, and those of the parts."""
    known = category.has_mask
    found = {f"instance_auroc{suffix}": metrics.auroc(scores.image, category.labels)}
    if scores.maps is not None and masks[known].any():
        found[f"full_pixel_auroc{suffix}"] = metrics.auroc(scores.maps[known], masks[known])
    for name, part in scores.parts.items():
        found |= aurocs(part, masks, category, f"_{name}")
    return found


def load_results(folder: Path | str) -> pd.DataFrame:
    """Return results.csv of a run folder: a row for each category, indexed by its name, and last ``Mean``."""
    file = Path(folder) / "results.csv"
    if not file.is_file():
        raise DataError(f"no results in {folder}: give the folder of a finished run")
    return pd.read_csv(file, index_col="Row Names")


def _override_transform(detector: Detector, data: DataChoice) -> None:
    """Give the detector the geometry that the user asked for; one fitted that cannot have it says why."""
    asked = detector.transform.override(data.resize, data.imagesize)
    if detector.fitted:
        detector.require_size(asked.size, asked.size)
    detector.transform = asked


def _fit(run: Run, detector: Detector, category: Category, data: DataChoice, progress: Progress) -> None:
    """Fit the detector on the category; what it tells of its epochs goes into the run's folder."""
    row = data.row(category)

    def look(now: Detector) -> dict[str, float]:
        if not category.test:
            return {}
        scores = now.score(category.test_images(now.transform, data.batch_size))
        return aurocs(scores, category.masks(now.transform), category)

    folder = run.folder / "tensorboard" / f"{row}_training" if run.saving.tensorboard else None
    detector.prepare(row, TrainingLog(run.folder / "training" / f"{row}.csv", look, folder))
    with run.timed(row, "fit"):
        images = category.train_images(detector.transform, data.batch_size)
        detector.fit(images, _prefixed(category, progress))


def _evaluate_category(
    run: Run, detector: Detector, category: Category, data: DataChoice, progress: Progress
) -> None:
    """Score the test images of a category, measure, and write everything that the run keeps of it."""
    row = data.row(category)
    if not category.test:
        log.warning("%s has no test images: its results are empty", category.name)
        run.results[row] = dict.fromkeys(RESULT_COLUMNS, math.nan)
        run.write()
        return
    with run.timed(row, "score"):
        images = category.test_images(detector.transform, data.batch_size)
        scores = detector.score(images, _prefixed(category, progress))
    with run.timed(row, "measure"):
        masks = category.masks(detector.transform)
        run.results[row] = measure(scores, masks, category, detector.threshold_)
        for name, table in detector.tables(scores, category.labels).items():
            run.tables.setdefault(name, {})[row] = table
        predictions = _predictions(scores, masks, category, detector.threshold_)
    with run.timed(row, "save"):
        predictions.save(run.folder / "predictions" / f"{row}.npz")
        if run.saving.segmentation_images and scores.maps is not None:
            _save_segmentation_images(
                run.folder / "segmentation_images" / row, predictions, detector.transform
            )
    if run.saving.tensorboard:
        write_tensorboard(run.folder / "tensorboard", row, run.results[row], predictions)
    run.write()


def _predictions(scores: Scores, masks: np.ndarray, category: Category, threshold: float) -> Predictions:
    known = category.has_mask
    maps = np.zeros((0, 0, 0), np.float32) if scores.maps is None else scores.maps
    optimal = f1_optimal_threshold(maps[known], masks[known]) if len(maps) and known.any() else math.nan
    return Predictions(
        imagewise_pred=scores.image,
        imagewise_gt=category.labels,
        fnames=np.array([str(image.path) for image in category.test]),
        pixelwise_pred=maps,
        pixelwise_gt=masks[:, None],
        pixelwise_known=known,
        optimal_threshold=optimal,
        threshold=threshold,
    )


def _save_segmentation_images(folder: Path, predictions: Predictions, transform: Transform) -> None:
    """Write [image | ground truth | map] for each test image, all in one colour range."""
    folder.mkdir(parents=True)
    colours = map_range(predictions.pixelwise_pred)
    for i, name in enumerate(predictions.fnames):
        picture = transform.image(read_picture(Path(name))).permute(1, 2, 0).numpy()
        mask = predictions.masks[i] if predictions.pixelwise_known[i] else None
        # The official name: the last four parts of the path, joined.
        file = folder / ("_".join((*Path(name).parts[-4:-1], Path(name).stem)) + ".png")
        save_segmentation_image(file, picture, mask, predictions.pixelwise_pred[i], colours)


def contaminated(category: Category, share: float, seed: int) -> Category:
    """Return the category with a share of its anomalous test images among those to train on instead.

    Of the same seed, a larger share contains the smaller ones.
    """
    if not 0 <= share < 1:
        raise ParameterError(f"contamination is {share}: give a share in [0, 1)")
    defects = np.flatnonzero(category.labels)
    moved = set(np.random.default_rng(seed).permutation(defects)[: round(share * len(defects))])
    if share and not moved:
        log.warning("%s has too few defects for a contamination of %g: none is moved", category.name, share)
    wrong = tuple(category.test[i].path for i in sorted(moved))
    kept = tuple(image for i, image in enumerate(category.test) if i not in moved)
    return replace(category, train=category.train + wrong, test=kept)


def _shortened(category: Category, share: float) -> Category:
    """Return the category with the first `share` of its training images, as the official code splits them."""
    if not 0 < share <= 1:
        raise ParameterError(f"train_val_split is {share}: give a share in (0, 1]")
    return replace(category, train=category.train[: max(1, int(len(category.train) * share))])


def _prefixed(category: Category, progress: Progress) -> Progress:
    return lambda stage, done, total: progress(f"{category.name}: {stage}", done, total)


def _peak_memory_mb() -> int | None:
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)  # bytes there, KiB elsewhere
