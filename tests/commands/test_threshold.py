"""``anomaly threshold``: another rate of false alarms without fitting again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from running import error_of, run

from anomaly_lib import Ensemble, PatchCore, Transform, load_detector
from anomaly_lib.evaluation.thresholds import conformal_threshold

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


@pytest.fixture
def detector(tiny_weights: str, normal_images: torch.Tensor) -> PatchCore:
    model = PatchCore("test_resnet", weights=tiny_weights, transform=Transform(72, 64), device="cpu")
    model.fit(normal_images)
    model.calibration_ = np.arange(1, 200, dtype=np.float32)  # enough for all rates
    model.calibration_of_ = np.full(199, -1)
    return model.set_false_alarm_rate(0.01)


def test_the_model_is_saved_with_the_new_threshold(detector: PatchCore, tmp_path: Path) -> None:
    detector.save(tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    result = run(["threshold", str(tmp_path / "m"), "--false_alarm_rate", "0.05"])
    assert result.exit_code == 0, result.output
    changed = load_detector(tmp_path / "m", device="cpu")
    assert changed.threshold_ == conformal_threshold(detector.calibration_, 0.05) < detector.threshold_
    assert changed.false_alarm_rate == 0.05
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert result.stdout.splitlines() == [
        "threshold 198 is now 190",
        "threshold 190, from 199 scores: of good parts like these, at most 5 % are called anomalous",
    ]


def test_without_a_rate_nothing_is_changed(detector: PatchCore, tmp_path: Path) -> None:
    detector.save(tmp_path / "m")
    before = (tmp_path / "m" / "model.json").read_bytes()
    result = run(["threshold", str(tmp_path / "m")])
    assert result.exit_code == 0, result.output
    assert "at most 1 % are called anomalous" in result.stdout
    assert (tmp_path / "m" / "model.json").read_bytes() == before


def test_few_images_promise_less_and_it_is_said(
    tiny_weights: str, normal_images: torch.Tensor, tmp_path: Path
) -> None:
    model = PatchCore("test_resnet", weights=tiny_weights, transform=Transform(72, 64), device="cpu")
    model.fit(normal_images).save(tmp_path / "m")
    result = run(["threshold", str(tmp_path / "m"), "--false_alarm_rate", "0.001"])
    assert "6 normal images are too few for a false-alarm rate of 0.001" in result.stderr
    assert "from 6 scores: of good parts like these, at most 14.3 % are called anomalous" in result.stdout


def test_an_ensemble_keeps_its_units(
    detector: PatchCore, normal_images: torch.Tensor, tmp_path: Path
) -> None:
    both = Ensemble(
        [detector, PatchCore("test_resnet", weights=detector.weights, transform=Transform(72, 64))]
    )
    both.fit(normal_images)
    scores = both.score(normal_images).image
    both.set_false_alarm_rate(0.4).save(tmp_path / "m")
    again = load_detector(tmp_path / "m", device="cpu")
    assert again.false_alarm_rate == 0.4
    assert again.threshold_ == both.threshold_
    assert np.array_equal(again.score(normal_images).image, scores)


@pytest.mark.parametrize("rate", ["0", "1", "-1", "nan", "2"])
def test_a_rate_that_makes_no_sense_is_refused(detector: PatchCore, tmp_path: Path, rate: str) -> None:
    detector.save(tmp_path / "m")
    assert "false_alarm_rate" in error_of(run(["threshold", str(tmp_path / "m"), "--false_alarm_rate", rate]))
    assert load_detector(tmp_path / "m", device="cpu").threshold_ == detector.threshold_


def test_a_model_without_calibration_scores_is_refused(detector: PatchCore, tmp_path: Path) -> None:
    detector.calibration_, detector.calibration_of_ = np.zeros(0, np.float32), np.zeros(0, np.int64)
    detector.save(tmp_path / "m")
    said = error_of(run(["threshold", str(tmp_path / "m"), "--false_alarm_rate", "0.1"]))
    assert "no calibration scores" in said
    assert "of which the model does not say" in run(["threshold", str(tmp_path / "m")]).stdout
