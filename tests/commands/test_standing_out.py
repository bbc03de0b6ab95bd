"""``anomaly data check --model``: a defect among the good parts is found by its score."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from running import error_of

from anomaly_lib.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


def check(path: Path, *words: object) -> Result:
    return CliRunner().invoke(main, ["data", "check", *map(str, words), str(path)])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of noise on one texture, one of which has a bright square."""
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    texture = rng.integers(60, 200, (72, 72, 3))
    for i in range(20):
        pixels = (texture + rng.integers(-20, 20, (72, 72, 3))).astype(np.uint8)
        if i == 7:
            pixels[20:50, 20:50] = 255
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def model(good: Path, tiny_weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    words = ["patch_core", "-b", "test_resnet", "--weights", tiny_weights]
    line = ["fit", "--device", "cpu", "--resize", "64", str(good), str(folder), *words]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    return folder


def test_a_defect_among_the_good_is_named_and_shown(good: Path, model: Path, tmp_path: Path) -> None:
    assert check(good).exit_code == 0
    result = check(good, "--model", model, "--page", tmp_path / "page.html")
    assert result.exit_code == 1
    [problem] = [line for line in result.stdout.splitlines() if "PROBLEM" in line]
    assert "07.png scores" in problem
    assert "far above the others" in problem
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 1
    assert "07.png" in page


def test_a_model_of_other_pictures_is_refused(good: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "fewer")
    (tmp_path / "fewer" / "00.png").unlink()
    said = error_of(check(tmp_path / "fewer", "--model", model))
    assert "was fitted on 20 pictures" in said
    assert "has 19" in said


def test_one_category_is_named(small_data: Path, model: Path) -> None:
    assert "-d CATEGORY" in error_of(check(small_data, "--model", model))
    assert "was fitted on 20 pictures" in error_of(check(small_data, "-d", "disc", "--model", model))


def test_a_page_without_a_model_has_no_effect(good: Path, tmp_path: Path) -> None:
    assert "no effect" in error_of(check(good, "--page", tmp_path / "page.html"))
