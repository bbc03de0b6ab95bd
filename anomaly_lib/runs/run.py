"""Runs: load data, fit, score, measure, save."""

import itertools
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anomaly_lib.datasets import Category, read_picture
from anomaly_lib.datasets.choice import DataChoice
from anomaly_lib.datasets.images import read_grey
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors import Detector
from anomaly_lib.errors import ParameterError
from anomaly_lib.evaluation.measures import RESULT_COLUMNS, aurocs, has_pixel_truth, measure
from anomaly_lib.evaluation.predictions import Predictions, Scores
from anomaly_lib.files import file_name, new_file
from anomaly_lib.predict import answers_of
from anomaly_lib.progress import Progress, silent
from anomaly_lib.runs.folder import Run, new_run_folder
from anomaly_lib.runs.sources import DetectorSource, MakeDetector, NewDetector
from anomaly_lib.runs.summary import Summary, settings_row
from anomaly_lib.runs.tensorboard import write_tensorboard
from anomaly_lib.runs.training_log import TrainingLog
from anomaly_lib.views.plots import save_marked_picture

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saving:
    """What a run keeps beside its results and predictions."""

    models: bool = False
    segmentation_images: bool = False
    tensorboard: bool = False


@dataclass(frozen=True)
class Stage:
    """What the steps of a run share: the run, the data, what is saved and who is told how far it is."""

    run: Run
    data: DataChoice
    saving: Saving
    progress: Progress

    def told(self, category: Category) -> Progress:
        """Return the progress of a category."""
        return lambda stage, done, total: self.progress(f"{category.name}: {stage}", done, total)


def train(
    results: Path,
    make_detector: MakeDetector,
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
    source = NewDetector(make_detector)
    for category in categories:
        source.require(category, data.geometry)
    run = Run(new_run_folder(results / log_project / log_group), seed, arguments)
    stage = Stage(run, data, saving, progress)
    for category in categories:
        detector = source.detector(category, data.geometry)
        _fit(stage, detector, category)
        if saving.models:
            row_name = data.row_name(category)
            detector.save(run.model(row_name))
            with new_file(run.training_images(row_name)) as unfinished:
                unfinished.write_text(json.dumps([str(path) for path in category.train], indent=0) + "\n")
        _evaluate_category(stage, detector, category, category.train)
    return run


def evaluate(
    results: Path,
    sources: Sequence[DetectorSource],
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
        When something in the data, the models or the options is wrong; before any work begins where it can
        be known.
    """
    categories = data.read()
    if len(sources) not in (1, len(categories)):
        raise ParameterError(
            f"{len(sources)} models for {len(categories)} categories: give one model for each, in the "
            "same order, or one for all"
        )
    pairs = list(zip(categories, sources if len(sources) > 1 else [*sources] * len(categories), strict=True))
    for category, source in pairs:
        source.require(category, data.geometry)
    run = Run(new_run_folder(results), seed, arguments)
    stage = Stage(run, data, saving, progress)
    for category, source in pairs:
        detector = source.detector(category, data.geometry)
        train = None if detector.fitted else category.train
        if train is not None:
            _fit(stage, detector, category)
        _evaluate_category(stage, detector, category, train)
    return run


def _fit(stage: Stage, detector: Detector, category: Category) -> None:
    """Fit the detector on the category; what it tells of its epochs goes into the run's folder."""
    row_name = stage.data.row_name(category)

    def look(early: Detector) -> dict[str, float]:
        if not category.test:
            return {}
        scores = early.score(category.test_images(early.transform, stage.data.batch_size))
        return aurocs(predictions_of(scores, category, early.transform, math.nan))

    tensorboard = stage.run.tensorboard(row_name, "_training") if stage.saving.tensorboard else None
    watch = TrainingLog(stage.run.training_log(row_name), look, tensorboard)
    with stage.run.timed(row_name, "fit"):
        images = category.train_images(detector.transform, stage.data.batch_size)
        detector.fit(images, stage.told(category), watch)


def _evaluate_category(
    stage: Stage, detector: Detector, category: Category, train: Sequence[Path] | None
) -> None:
    """Score the test images of a category, measure, and write everything that the run keeps of it.

    `train` are the pictures that the detector was fitted on in this run.
    """
    run, row_name = stage.run, stage.data.row_name(category)
    if stage.saving.segmentation_images and not detector.localises:
        log.warning("no segmentation images of %s are written: the model makes no maps", category.name)
    if not category.test:
        log.warning("%s has no test images: its results are empty", category.name)
        run.summaries[row_name] = Summary.of(detector, train)
        run.add(row_name, dict.fromkeys(RESULT_COLUMNS, math.nan) | settings_row(detector, None), {})
        return
    with run.timed(row_name, "score"):
        images = category.test_images(detector.transform, stage.data.batch_size)
        scores = detector.score(images, stage.told(category))
    with run.timed(row_name, "measure"):
        predictions = predictions_of(scores, category, detector.transform, detector.threshold_)
        _warn_of_missing_truth(predictions, category)
        measures = measure(predictions)
        predictions = replace(predictions, optimal_threshold=measures.optimal_threshold)
        judged = np.flatnonzero(category.has_label)
        tables = detector.tables(scores.of(judged), category.labels[judged])
        summary = Summary.of(detector, train, [image.path for image in category.test], predictions)
        run.summaries[row_name] = summary
        row = measures.row | settings_row(detector, summary.decisions)
        run.add(row_name, row, tables)  # whatever fails below
    with run.timed(row_name, "save"):
        predictions.save(run.predictions(row_name))
        if stage.saving.segmentation_images and scores.maps is not None:
            _save_segmentation_images(run.segmentation_images(row_name), scores, category, detector)
        if stage.saving.tensorboard:
            write_tensorboard(run.tensorboard(row_name), measures.row, predictions)
    run.write()  # with the seconds that saving took


def predictions_of(scores: Scores, category: Category, transform: Transform, threshold: float) -> Predictions:
    """Return the scores of the category's test images beside the truth."""
    return Predictions(
        imagewise_pred=scores.image,
        imagewise_gt=category.labels,
        fnames=np.array([str(image.path) for image in category.test]),
        pixelwise_pred=np.zeros((0, 0, 0), np.float32) if scores.maps is None else scores.maps,
        pixelwise_gt=category.masks(transform)[:, None],
        imagewise_known=category.has_label,
        pixelwise_known=category.has_mask,
        threshold=threshold,
        parts=scores.parts,
    )


def _warn_of_missing_truth(predictions: Predictions, category: Category) -> None:
    labels = predictions.judged.imagewise_gt
    if not (labels.any() and not labels.all()):
        missing = "defects" if not labels.any() else "good images"
        log.warning("%s has no test images of %s: its image metrics are empty", category.name, missing)
    if not has_pixel_truth(predictions):
        log.warning("%s has no masks to compare maps with: its pixel metrics are empty", category.name)


def _save_segmentation_images(folder: Path, scores: Scores, category: Category, detector: Detector) -> None:
    """Write each test image, whole, with the outline of what reaches the threshold, and its map."""
    names = _picture_names([image.path for image in category.test])
    for number, image in enumerate(category.test):
        picture = read_picture(image.path)
        truth = None if image.mask is None else np.asarray(read_grey(image.mask)) >= 128
        one, shown = scores.of(np.array([number])), [(image.path, picture.size)]
        answer = answers_of(one, shown, detector.transform, detector.threshold_)[0]
        save_marked_picture(folder / names[number], np.asarray(picture), answer, truth)


def _picture_names(images: Sequence[Path]) -> list[str]:
    """Return the official name for each image's picture, with a number where another one has it.

    It is the last four parts of the path, joined: of ``a/b_c.png``, ``a_b/c.png`` and ``a/b_c.jpg`` the same.
    """
    names: dict[str, None] = {}
    for image in images:
        name = "_".join((*image.parts[-4:-1], image.stem))
        numbered = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        names[next(new for new in (file_name(one, ".png") for one in numbered) if new not in names)] = None
    return list(names)
