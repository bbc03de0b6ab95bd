"""``anomaly compare``: what changed since last week's model."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from running import error_of

from anomaly_lib import Gaussian, ImageFiles, PatchCore, Transform, load_detector, read_category
from anomaly_lib.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


def compare(*words: object) -> Result:
    return CliRunner().invoke(main, ["compare", "--device", "cpu", *map(str, words)])


@pytest.fixture
def model(small_data: Path, tiny_weights: str, tmp_path: Path) -> Path:
    transform = Transform(72, 64)
    detector = PatchCore("test_resnet", weights=tiny_weights, transform=transform, device="cpu")
    detector.fit(read_category(small_data, "disc").train_images(transform)).save(tmp_path / "old")
    return tmp_path / "old"


def test_a_model_is_the_same_as_itself(model: Path, small_data: Path) -> None:
    result = compare(model, model, small_data / "disc" / "test")
    assert result.exit_code == 0, result.output
    number = len(list((small_data / "disc" / "test").rglob("*.png")))
    assert result.stdout.splitlines() == [
        "the models are the same",
        f"0 of {number} pictures are judged differently",
    ]


def test_an_update_and_its_effect_are_named(model: Path, small_data: Path, tmp_path: Path) -> None:
    alarm = small_data / "disc" / "test" / "spot" / "000.png"
    CliRunner().invoke(main, ["update", "--device", "cpu", "--false_alarms", str(model), str(alarm)])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    result = compare(model / "previous", model, alarm, tmp_path / "broken.png")
    first, changed, broken, last = result.stdout.splitlines()
    assert first == "learned from 5 pictures, now from 6"
    assert changed.startswith(f"{alarm}: anomalous (")
    assert "), now good (" in changed
    assert broken.startswith(f"{tmp_path / 'broken.png'}: cannot read the image")
    assert last == "1 of 1 pictures are judged differently"


def test_settings_and_the_threshold_are_named(model: Path, small_data: Path, tmp_path: Path) -> None:
    detector = load_detector(model, device="cpu")
    before = detector.threshold_
    detector.set_false_alarm_rate(0.5).save(tmp_path / "new")
    ratio = detector.threshold_ / before
    assert compare(model, tmp_path / "new").stdout.splitlines() == [
        "false_alarm_rate: 0.01, now 0.5",
        f"the threshold is {ratio:.3g} times what it was",
    ]
    ring = read_category(small_data, "ring")
    others = ImageFiles((*ring.train, ring.test[0].path), detector.transform)
    load_detector(model, device="cpu").fit(others).save(tmp_path / "other")
    first, *_ = compare(model, tmp_path / "other").stdout.splitlines()
    assert first == "learned from other pictures, again 5"
    smaller = PatchCore(
        "test_resnet", weights=detector.weights, transform=Transform(80, 64), coreset=0.2, device="cpu"
    )
    disc = read_category(small_data, "disc")
    smaller.fit(disc.train_images(smaller.transform)).save(tmp_path / "smaller")
    assert compare(model, tmp_path / "smaller").stdout.splitlines() == [
        "coreset: 0.1, now 0.2",
        "pictures: resize 72 and image size 64, now resize 80 and image size 64",
    ]


def test_another_method_is_named(model: Path, small_data: Path, tmp_path: Path, tiny_weights: str) -> None:
    detector = Gaussian("test_resnet", weights=tiny_weights, device="cpu", transform=Transform(64))
    detector.fit(read_category(small_data, "disc").train_images(detector.transform)).save(tmp_path / "new")
    assert compare(model, tmp_path / "new").stdout == "method: patch_core, now gaussian\n"


def test_what_is_no_model_is_a_sentence(model: Path, tmp_path: Path) -> None:
    assert "no model" in error_of(compare(model, tmp_path / "none"))
