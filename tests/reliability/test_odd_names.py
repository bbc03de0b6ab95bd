"""Names that file systems allow and tables do not: results stay one line a row, and nothing is lost."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from process_attacks import leftovers, require_whole

from anomaly_lib import load_detector, load_predictions
from anomaly_lib.datasets.choice import DataChoice
from anomaly_lib.datasets.transforms import Geometry
from anomaly_lib.detectors import Gaussian
from anomaly_lib.files import file_name
from anomaly_lib.runs import Saving, train
from anomaly_lib.runs.run import _picture_names

NAMES = ("two\nlines", "car\rriage", 'quo"te, comma', "\u2028", "x" * 200, "ä" * 100, "Mean")


@pytest.mark.parametrize("name", NAMES)
def test_a_category_of_any_name_is_a_row_of_its_own(
    name: str, write_category: Callable[..., Path], tiny_weights: str, tmp_path: Path
) -> None:
    write_category(tmp_path / "data", name)
    data = DataChoice(tmp_path / "data", (name,), geometry=Geometry(64, 64))
    run = train(
        tmp_path / "results",
        lambda category, geometry: Gaussian("test_resnet", weights=tiny_weights, fold=None, device="cpu"),
        data,
        saving=Saving(models=True, segmentation_images=True, tensorboard=True),
    )
    lines = (run.folder / "results.csv").read_bytes().decode().splitlines()
    assert len(lines) == 3
    [row, mean] = pd.read_csv(run.folder / "results.csv", index_col=0).index
    assert mean == "Mean"
    assert len(load_predictions(run.predictions(row)).fnames) == 4
    assert load_detector(run.model(row), device="cpu").fitted
    assert len(list(run.segmentation_images(row).iterdir())) == 4
    require_whole(run.folder)
    assert leftovers(run.folder) == []


def test_a_name_that_is_too_long_is_shortened_and_still_told_from_others() -> None:
    names = [file_name("x" * 300 + end, ".npz") for end in "ab"] + [file_name("ä" * 200)]
    assert all(len(os.fsencode(name)) in (254, 255) for name in names)
    assert len(set(names)) == 3
    assert names[0].endswith(".npz")
    assert file_name("plain", ".csv") == "plain.csv"


def test_pictures_of_images_whose_joined_names_are_the_same_have_numbers() -> None:
    images = [Path("/d/c/test/a/b_c.png"), Path("/d/c/test/a/b_c.jpg"), Path("/d/c/test/a_b/c.png")]
    assert _picture_names(images) == ["c_test_a_b_c.png", "c_test_a_b_c_1.png", "c_test_a_b_c_2.png"]
