"""``anomaly update``: a saved model learns on, and returns to what it was."""

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from running import error_of

from anomaly_lib import PatchCore, Transform, load_detector, read_category
from anomaly_lib.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


@pytest.fixture
def model(small_data: Path, tiny_weights: str, tmp_path: Path) -> Path:
    transform = Transform(72, 64)
    detector = PatchCore("test_resnet", weights=tiny_weights, transform=transform, device="cpu")
    detector.fit(read_category(small_data, "disc").train_images(transform)).save(tmp_path / "model")
    return tmp_path / "model"


def update(model: Path, *words: object) -> Result:
    return CliRunner().invoke(main, ["update", "--device", "cpu", str(model), *map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_false_alarms_are_learned_and_undone(model: Path, small_data: Path) -> None:
    before = contents(model)
    alarm = small_data / "disc" / "test" / "spot" / "000.png"
    assert load_detector(model, device="cpu").predict(alarm).label == "anomalous"
    result = update(model, alarm, "--false_alarms")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "learned from 1 of 1 pictures, 6 in all"
    loaded = load_detector(model, device="cpu")
    assert isinstance(loaded, PatchCore)
    assert loaded.predict(alarm).label == "good"
    assert len(loaded.calibration_) == 5
    assert {name for name in contents(model) if name.startswith("previous/")} == {
        "previous/model.json",
        "previous/model.safetensors",
    }
    undone = CliRunner().invoke(main, ["update", "--undo", str(model)])
    assert undone.exit_code == 0, undone.output
    assert contents(model) == before
    assert "nothing to undo" in error_of(CliRunner().invoke(main, ["update", "--undo", str(model)]))


def test_good_pictures_count_for_the_threshold_and_what_cannot_be_read_is_named(
    model: Path, small_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_data / "disc" / "test" / "good", tmp_path / "new")
    (tmp_path / "new" / "broken.png").write_bytes(b"\x89PNG")
    result = update(model, tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert "learned from 3 of 4 pictures, 8 in all" in result.stdout
    assert "left out: " in result.stdout
    assert len(load_detector(model, device="cpu").calibration_) == 8
    again = update(model, tmp_path / "new" / "000.png")
    assert "9 in all" in again.stdout
    CliRunner().invoke(main, ["update", "--undo", str(model)])
    assert load_detector(model, device="cpu").images_ == 8  # one step, not two


def test_another_threshold_keeps_the_model_before(model: Path, small_data: Path) -> None:
    before = contents(model)
    update(model, small_data / "disc" / "test" / "good")
    CliRunner().invoke(main, ["threshold", str(model), "--false_alarm_rate", "0.3"])
    assert load_detector(model, device="cpu").false_alarm_rate == 0.3
    CliRunner().invoke(main, ["update", "--undo", str(model)])
    assert contents(model) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which pictures?"),
        (("nowhere.png",), "no pictures to learn from"),
        (("new/*.png",), "no file is called as in"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(model: Path, words: tuple[str, ...], said: str) -> None:
    before = contents(model)
    assert said in error_of(update(model, *words))
    assert contents(model) == before


def test_undo_takes_nothing_else(model: Path) -> None:
    assert "give nothing else" in error_of(
        CliRunner().invoke(main, ["update", "--undo", str(model), "x.png"])
    )
    (model / "previous").symlink_to(model)
    assert "holds other files than a model" in error_of(
        CliRunner().invoke(main, ["update", "--undo", str(model)])
    )


def test_a_model_may_be_read_by_others(model: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in model.iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~mask)


def test_pictures_of_another_size_are_brought_to_the_models(model: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((90, 200, 3), 90, np.uint8)).save(tmp_path / "wide.png")
    assert update(model, tmp_path / "wide.png").exit_code == 0
