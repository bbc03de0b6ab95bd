"""Runs: what they do with detectors and data, and the folder that they leave behind."""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from anomaly_lib import Detector, Scores, Transform, load_predictions, load_results, read_category
from anomaly_lib.datasets import Category
from anomaly_lib.datasets.choice import DataChoice
from anomaly_lib.datasets.transforms import AS_IT_IS, Geometry
from anomaly_lib.detectors.sources import Images, checked_batches
from anomaly_lib.detectors.watch import Watch
from anomaly_lib.errors import DataError, ParameterError
from anomaly_lib.evaluation import metrics
from anomaly_lib.evaluation.measures import RESULT_COLUMNS, measure
from anomaly_lib.progress import Progress, track
from anomaly_lib.runs import NewDetector, Saving, evaluate, new_run_folder, train

HEADER = "Row Names,instance_auroc,full_pixel_auroc,anomaly_pixel_auroc,aupro,"

SETTINGS = ("image_size", "threshold", "false_alarm_rate", "missed_defects", "false_alarms")


class Yellow(Detector):
    """Scores by how much more red than blue there is; finds the yellow defects without fail."""

    method = "yellow"

    unsaved = frozenset({"geometry"})
    false_alarm_rate = 0.01
    localises = True

    def __init__(self, geometry: Geometry = AS_IT_IS) -> None:
        self.transform = Transform(48, 48).asked(geometry)

    @classmethod
    def fitted_at(cls, geometry: Geometry, threshold: float = 0.4) -> Self:
        detector = cls(geometry)
        detector._calibrate(None)
        detector.threshold_ = threshold
        return detector

    def learn(self, images: Images | torch.Tensor, progress: Progress, watch: Watch) -> None:
        self.fitted_on_ = sum(
            len(batch) for batch in track(checked_batches(images), "fit", len(images), progress)
        )

    def _calibrate(self, scores: np.ndarray | None) -> Self:
        self.calibration_, self.calibration_of_ = np.zeros(0, np.float32), np.zeros(0, np.int64)
        self.threshold_ = 0.4
        return self

    def score_batch(self, images: torch.Tensor) -> Scores:
        maps = (images[:, 0] - images[:, 2]).numpy()
        image, maps = maps.max(axis=(1, 2)), maps if self.localises else None
        return Scores(image, maps, {"same": Scores(image, maps), "opposite": Scores(-image, None)})

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, *saved: Any) -> None:
        raise NotImplementedError


def yellow(category: Category, geometry: Geometry) -> Yellow:
    """Make a new detector for a category."""
    return Yellow(geometry)


@dataclass
class Saved:
    """A source of a fitted detector."""

    threshold: float = 0.4

    def require(self, category: Category, geometry: Geometry) -> None:
        self.detector(category, geometry)

    def detector(self, category: Category, geometry: Geometry) -> Yellow:
        return Yellow.fitted_at(geometry, self.threshold)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def data(small_data: Path) -> DataChoice:
    return DataChoice(small_data, ("disc", "ring"))


# --- Training ---


def test_a_run_is_kept_in_the_documented_files(data: DataChoice, tmp_path: Path) -> None:
    saving = Saving(models=True, segmentation_images=True)
    run = train(tmp_path / "results", yellow, data, log_project="p", log_group="g", saving=saving)
    assert run.folder == tmp_path / "results" / "p" / "g"
    kept = files(run.folder)
    assert [name for name in kept if not name.startswith("segmentation")] == [
        "models/mvtec_disc/model.json",
        "models/mvtec_disc/model.safetensors",
        "models/mvtec_ring/model.json",
        "models/mvtec_ring/model.safetensors",
        "predictions/mvtec_disc.npz",
        "predictions/mvtec_ring.npz",
        "results.csv",
        "run.json",
        "training/mvtec_disc.json",
        "training/mvtec_ring.json",
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "results"]
    paths = [Path(path) for path in json.loads((run.folder / "training" / "mvtec_disc.json").read_text())]
    assert paths == list(read_category(data.root, "disc").train)


def test_results_have_the_official_columns_first_and_the_mean_last(data: DataChoice, tmp_path: Path) -> None:
    run = train(tmp_path, yellow, replace(data, categories=("ring", "disc")))
    lines = (run.folder / "results.csv").read_text().splitlines()
    assert lines[0].startswith(HEADER)
    parts = "instance_auroc_same,full_pixel_auroc_same,instance_auroc_opposite"
    assert lines[0] == "Row Names," + ",".join(RESULT_COLUMNS) + "," + parts + "," + ",".join(SETTINGS)
    assert [line.split(",")[0] for line in lines[1:]] == ["mvtec_ring", "mvtec_disc", "Mean"]
    table = load_results(run.folder)
    assert list(table.index) == ["mvtec_ring", "mvtec_disc", "Mean"]
    metrics = [*RESULT_COLUMNS, *parts.split(","), "missed_defects", "false_alarms"]
    assert np.allclose(table.loc["Mean", metrics], table[metrics].iloc[:2].mean())
    assert table.loc["Mean", ["threshold", "image_size"]].isna().all()  # of which a mean says nothing
    pd.testing.assert_frame_equal(table, run.results())


def test_a_perfect_detector_has_perfect_metrics(data: DataChoice, tmp_path: Path) -> None:
    table = train(tmp_path, yellow, data).results()
    for column in (
        "instance_auroc",
        "instance_average_precision",
        "instance_f1_max",
        "instance_balanced_accuracy",
    ):
        assert table[column].tolist() == [1, 1, 1]
    assert (table[["full_pixel_auroc", "anomaly_pixel_auroc", "aupro"]] > 0.95).all(axis=None)


def test_the_parts_of_the_scores_have_metrics_of_their_own(data: DataChoice, tmp_path: Path) -> None:
    table = train(tmp_path, yellow, data).results()
    assert table["instance_auroc_same"].tolist() == [1, 1, 1]
    assert table["instance_auroc_opposite"].tolist() == [0, 0, 0]
    assert table["full_pixel_auroc_same"].tolist() == table["full_pixel_auroc"].tolist()
    assert "full_pixel_auroc_opposite" not in table


def test_predictions_are_what_the_metrics_are_of(data: DataChoice, tmp_path: Path) -> None:
    run = train(tmp_path, yellow, data)
    predictions = load_predictions(run.folder / "predictions" / "mvtec_disc.npz")
    row = load_results(run.folder).loc["mvtec_disc"]
    assert predictions.imagewise_pred.shape == (6,)
    assert predictions.pixelwise_pred.shape == (6, 48, 48)
    assert predictions.pixelwise_gt.shape == (6, 1, 48, 48)
    names = [Path(str(name)).parts[-2:] for name in predictions.fnames]
    assert names[0] == ("blot", "000.png")
    assert [name[0] for name in names] == ["blot", "good", "good", "good", "spot", "spot"]
    assert predictions.imagewise_gt.tolist() == [name[0] != "good" for name in names]
    assert predictions.threshold == 0.4
    auroc = metrics.auroc(predictions.pixelwise_pred.ravel(), predictions.masks.ravel())
    assert row["full_pixel_auroc"] == pytest.approx(auroc)
    f1 = metrics.f1(predictions.pixelwise_pred, predictions.masks, predictions.optimal_threshold)
    assert row["pixel_f1_max"] == pytest.approx(f1)


def test_the_run_notes_arguments_seed_versions_seconds_and_memory(data: DataChoice, tmp_path: Path) -> None:
    run = train(tmp_path, yellow, data, seed=5, arguments=["--seed", "5"])
    document = json.loads((run.folder / "run.json").read_text())
    assert document["arguments"] == ["--seed", "5"]
    assert document["seed"] == 5
    assert document["versions"]["torch"]
    assert document["versions"]["anomaly_lib"]
    assert 50 < document["peak_memory_mb"] < 100_000
    assert set(document["seconds"]) == {"mvtec_disc", "mvtec_ring"}
    for seconds in document["seconds"].values():
        assert list(seconds) == ["fit", "score", "measure", "save"]
        assert all(0 <= value < 100 for value in seconds.values())


def test_no_categories_means_all_there_are(small_data: Path, tmp_path: Path) -> None:
    run = train(tmp_path, yellow, DataChoice(small_data))
    assert list(run.rows) == ["mvtec_disc", "mvtec_ring"]


def test_a_share_of_the_training_images_is_the_first_of_them(data: DataChoice, tmp_path: Path) -> None:
    made: list[Yellow] = []

    def make(category: Category, geometry: Geometry) -> Yellow:
        made.append(yellow(category, geometry))
        return made[-1]

    train(tmp_path, make, replace(data, categories=("disc",), train_share=0.5))
    train(tmp_path, make, replace(data, categories=("disc",), train_share=0.01))
    assert [one.fitted_on_ for one in made if one.fitted] == [2, 1]


@pytest.mark.parametrize("share", [0, -1, 1.5, math.nan])
def test_a_share_that_makes_no_sense_is_refused(data: DataChoice, tmp_path: Path, share: float) -> None:
    with pytest.raises(ParameterError, match="train_val_split"):
        train(tmp_path / "results", yellow, replace(data, train_share=share))
    assert not (tmp_path / "results").exists()


def test_the_size_asked_for_overrides_the_detectors(data: DataChoice, tmp_path: Path) -> None:
    run = train(tmp_path, yellow, replace(data, geometry=Geometry(40, 32)))
    assert load_predictions(run.folder / "predictions" / "mvtec_ring.npz").pixelwise_pred.shape == (4, 32, 32)


def test_progress_names_the_category(data: DataChoice, tmp_path: Path, recorder: Any) -> None:
    train(tmp_path, yellow, data, progress=recorder)
    assert recorder.last() == {
        "disc: fit": (5, 5),
        "disc: score": (6, 6),
        "ring: fit": (4, 4),
        "ring: score": (4, 4),
    }


# --- What cannot be measured ---


@pytest.fixture
def measured(
    write_category: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., "pd.Series[float]"]:
    """Return a function that trains on a category and returns its row of results.csv."""

    def measure(**options: Any) -> "pd.Series[float]":
        write_category(tmp_path / "data", "part", **options)
        with caplog.at_level(logging.WARNING, logger="anomaly_lib"):
            run = train(tmp_path / "results", yellow, DataChoice(tmp_path / "data"))
        return load_results(run.folder).loc["mvtec_part"]

    return measure


IMAGE = [name for name in RESULT_COLUMNS if name.startswith("instance")]
PIXEL = [name for name in RESULT_COLUMNS if not name.startswith("instance")]


def test_without_masks_the_pixel_cells_are_empty(
    measured: Callable[..., "pd.Series[float]"], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    row = measured(masks=False)
    assert row[PIXEL].isna().all()
    assert row[IMAGE].notna().all()
    assert "part has no masks" in caplog.text
    line = (tmp_path / "results" / "project" / "group" / "results.csv").read_text().splitlines()[1]
    assert ",,," in line
    assert "nan" not in line.lower()
    predictions = load_predictions(tmp_path / "results/project/group/predictions/mvtec_part.npz")
    assert predictions.pixelwise_known.tolist() == [True, True, False, False]
    assert math.isnan(predictions.optimal_threshold)


def test_without_defects_all_cells_are_empty(
    measured: Callable[..., "pd.Series[float]"], caplog: pytest.LogCaptureFixture
) -> None:
    assert measured(defects={})[list(RESULT_COLUMNS)].isna().all()
    assert "part has no test images of defects" in caplog.text


def test_without_good_test_images_the_image_cells_that_need_them_are_empty(
    measured: Callable[..., "pd.Series[float]"], caplog: pytest.LogCaptureFixture
) -> None:
    row = measured(good=0)
    assert math.isnan(row["instance_auroc"])
    assert math.isnan(row["instance_balanced_accuracy"])
    assert row["full_pixel_auroc"] > 0.9
    assert "part has no test images of good images" in caplog.text


def test_without_a_test_folder_all_cells_are_empty_and_the_model_is_kept(
    write_category: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_category(tmp_path / "data", "a", good=0, defects={})
    write_category(tmp_path / "data", "b")
    run = train(tmp_path / "results", yellow, DataChoice(tmp_path / "data"), saving=Saving(models=True))
    table = load_results(run.folder)
    assert table.loc["mvtec_a", list(RESULT_COLUMNS)].isna().all()
    columns = list(RESULT_COLUMNS)
    assert table.loc["Mean", columns].equals(table.loc["mvtec_b", columns])
    assert (run.folder / "models" / "mvtec_a" / "model.json").exists()
    assert "a has no test images" in caplog.text


def test_only_images_with_known_masks_count_for_the_pixels(
    write_category: Callable[..., Path], tmp_path: Path
) -> None:
    """One defect is drawn, another is not: its bright pixels would count as false alarms."""
    write_category(tmp_path / "data", "part", defects={"drawn": 2})
    known = load_results(train(tmp_path / "r", yellow, DataChoice(tmp_path / "data")).folder)
    for i in range(3):
        Image.new("RGB", (72, 72), (255, 255, 0)).save(_made(tmp_path / f"data/part/test/undrawn/{i}.png"))
    both = load_results(train(tmp_path / "r", yellow, DataChoice(tmp_path / "data")).folder)
    assert both.loc["mvtec_part", PIXEL].equals(known.loc["mvtec_part", PIXEL])


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_a_method_that_does_not_localise_has_no_pixel_cells(
    data: DataChoice, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Blind(Yellow):
        localises = False

    def blind(category: Category, geometry: Geometry) -> Yellow:
        return Blind()

    saving = Saving(segmentation_images=True, tensorboard=True)
    run = train(tmp_path, blind, data, saving=saving)
    table = load_results(run.folder)
    assert table[PIXEL].isna().all(axis=None)
    assert table["instance_auroc"].tolist() == [1, 1, 1]
    predictions = load_predictions(run.folder / "predictions" / "mvtec_disc.npz")
    assert predictions.pixelwise_pred.shape == (0, 0, 0)
    assert math.isnan(predictions.optimal_threshold)
    assert not (run.folder / "segmentation_images").exists()


# --- Evaluating ---


def test_an_evaluation_gives_what_the_training_gave(data: DataChoice, tmp_path: Path) -> None:
    trained = train(tmp_path / "t", yellow, data)
    evaluated = evaluate(tmp_path / "e", [Saved()], data, seed=3)
    assert evaluated.folder == tmp_path / "e"
    pd.testing.assert_frame_equal(load_results(trained.folder), load_results(evaluated.folder))
    assert json.loads((evaluated.folder / "run.json").read_text())["seed"] == 3


def test_each_category_has_its_own_model_or_all_have_one(data: DataChoice, tmp_path: Path) -> None:
    run = evaluate(tmp_path / "each", [Saved(1.0), Saved(2.0)], data)
    thresholds = [
        load_predictions(run.folder / f"predictions/mvtec_{c}.npz").threshold for c in ("disc", "ring")
    ]
    assert thresholds == [1, 2]
    run = evaluate(tmp_path / "one", [Saved(3.0)], data)
    thresholds = [
        load_predictions(run.folder / f"predictions/mvtec_{c}.npz").threshold for c in ("disc", "ring")
    ]
    assert thresholds == [3, 3]


@pytest.mark.parametrize("models", [0, 3])
def test_a_number_of_models_that_does_not_match_is_refused(
    data: DataChoice, tmp_path: Path, models: int
) -> None:
    with pytest.raises(ParameterError, match=f"{models} models for 2 categories"):
        evaluate(tmp_path / "results", [Saved()] * models, data)
    assert not (tmp_path / "results").exists()


def test_an_unfitted_detector_is_fitted_at_the_size_asked_for(data: DataChoice, tmp_path: Path) -> None:
    run = evaluate(tmp_path, [NewDetector(yellow)], replace(data, geometry=Geometry(size=32)))
    assert load_predictions(run.folder / "predictions/mvtec_ring.npz").pixelwise_pred.shape[1:] == (32, 32)


def test_a_model_that_cannot_be_had_is_said_before_anything(data: DataChoice, tmp_path: Path) -> None:
    class Missing(Saved):
        def require(self, category: Category, geometry: Geometry) -> None:
            if category.name == "ring":
                raise DataError("of one size")

    with pytest.raises(DataError, match="of one size"):
        evaluate(tmp_path / "results", [Missing()], data)
    assert not (tmp_path / "results").exists()


def test_a_saved_run_measured_again_gives_its_row(data: DataChoice, tmp_path: Path) -> None:
    run = train(tmp_path, yellow, data)
    for row_name in ("mvtec_disc", "mvtec_ring"):
        predictions = load_predictions(run.predictions(row_name))
        measures = measure(predictions)
        assert measures.row == {name: run.rows[row_name][name] for name in measures.row}
        assert measures.optimal_threshold == predictions.optimal_threshold


# --- The folder ---


def test_a_folder_that_exists_is_never_written_to(tmp_path: Path) -> None:
    made = [new_run_folder(tmp_path / "a" / "run") for _ in range(4)]
    assert [folder.name for folder in made] == ["run", "run_0", "run_1", "run_2"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("nowhere")
    names = ("file", "file/run", "link", "link/run", "long" * 100, "..", "nul\0")
    for folder in (*(tmp_path / name for name in names), Path(), Path("/")):
        with pytest.raises(DataError, match="cannot write results to") as error:
            new_run_folder(folder)
        assert "choose another folder" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize(
    "wrong", [{"categories": ("disc", "nut")}, {"root": Path("nowhere")}, {"geometry": Geometry(10, 999)}]
)
def test_what_is_wrong_before_the_work_leaves_no_folder(
    data: DataChoice, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    for run in (
        lambda: train(tmp_path / "results", yellow, replace(data, **wrong)),
        lambda: evaluate(tmp_path / "results", [Saved()], replace(data, **wrong)),
    ):
        with pytest.raises((DataError, ParameterError)):
            run()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_run_keeps_what_it_has_and_nothing_by_halves(
    data: DataChoice, tmp_path: Path, error: type[BaseException]
) -> None:
    class Interrupted(Yellow):
        def score_batch(self, images: torch.Tensor) -> Scores:
            if len(images) == 4:  # ring's, the second category
                raise error
            return super().score_batch(images)

    with pytest.raises(error):
        train(tmp_path, lambda category, geometry: Interrupted(), data)
    assert files(tmp_path / "project" / "group") == ["predictions/mvtec_disc.npz", "results.csv", "run.json"]
    assert list(load_results(tmp_path / "project" / "group").index) == ["mvtec_disc", "Mean"]


def test_results_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results in"):
        load_results(tmp_path)


def test_segmentation_images_have_the_official_names_and_show_image_and_map(
    data: DataChoice, small_data: Path, tmp_path: Path
) -> None:
    run = train(tmp_path, yellow, data, saving=Saving(segmentation_images=True))
    folder = run.folder / "segmentation_images" / "mvtec_ring"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "ring_test_good_000.png",
        "ring_test_good_001.png",
        "ring_test_spot_000.png",
        "ring_test_spot_001.png",
    ]
    with Image.open(folder / "ring_test_spot_000.png") as picture:
        assert picture.width >= 800  # what marks it is drawn at the size of a page


# --- Contamination ---


def test_contamination_moves_defects_from_test_to_training(write_category: Any, tmp_path: Path) -> None:
    write_category(tmp_path, "lid", train=4, good=3, defects={"blot": 6, "spot": 4})
    pure = read_category(tmp_path, "lid")
    moved = {}
    for share in (0.2, 0.5):
        [category] = DataChoice(tmp_path, contamination=share, seed=1).read()
        moved[share] = set(category.train) - set(pure.train)
        assert len(moved[share]) == 10 * share
        assert moved[share] <= {image.path for image in pure.test if image.anomalous}
        assert set(pure.test) - set(category.test) == {i for i in pure.test if i.path in moved[share]}
        assert category.labels.sum() == 10 - 10 * share
    assert moved[0.2] < moved[0.5]
    [other] = DataChoice(tmp_path, contamination=0.5, seed=2).read()
    assert set(other.train) - set(pure.train) != moved[0.5]


def test_no_contamination_changes_nothing_and_more_than_all_is_refused(small_data: Path) -> None:
    assert DataChoice(small_data, ("disc",)).read() == [read_category(small_data, "disc")]
    with pytest.raises(ParameterError, match="contamination is 1"):
        DataChoice(small_data, contamination=1.0).read()
