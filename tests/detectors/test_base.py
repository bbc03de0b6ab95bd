"""What the base class does for all detectors: calibration, formats, geometry, what a failed fit leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_formats import as_format

from anomaly_lib import (
    Detector,
    Ensemble,
    Gaussian,
    PatchCore,
    PatchSVDD,
    Scores,
    Transform,
    load_detector,
)
from anomaly_lib.detectors.sources import Images
from anomaly_lib.detectors.watch import Watch
from anomaly_lib.errors import NotFittedError
from anomaly_lib.evaluation.thresholds import conformal_threshold
from anomaly_lib.progress import Progress

SMALL = Transform(resize=72, crop=64)

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


def detectors(weights: str) -> list[Detector]:
    options: dict[str, Any] = {"weights": weights, "transform": SMALL, "device": "cpu", "precision": "fp32"}
    return [PatchCore("test_resnet", coreset=30, **options), Gaussian("test_resnet", fold=None, **options)]


def test_calibration_scores_are_saved_and_make_the_threshold_again(
    tiny_weights: str, normal_images: torch.Tensor, tmp_path: Path
) -> None:
    for number, detector in enumerate(detectors(tiny_weights)):
        detector.fit(normal_images).save(tmp_path / str(number))
        loaded = load_detector(tmp_path / str(number), device="cpu")
        assert loaded.calibration_.dtype == np.float32
        assert len(loaded.calibration_) == len(normal_images)
        assert np.array_equal(loaded.calibration_, detector.calibration_)
        assert conformal_threshold(loaded.calibration_, detector.false_alarm_rate) == loaded.threshold_


@pytest.mark.parametrize("number", [1, 2])
def test_a_model_of_an_earlier_format_scores_the_same(
    number: int,
    tiny_weights: str,
    normal_images: torch.Tensor,
    defective_images: torch.Tensor,
    tmp_path: Path,
) -> None:
    for place, detector in enumerate(detectors(tiny_weights)):
        detector.fit(normal_images).save(tmp_path / str(place))
        as_format(number, tmp_path / str(place))
        loaded = load_detector(tmp_path / str(place), device="cpu")
        assert loaded.threshold_ == detector.threshold_
        assert len(loaded.calibration_) == (0 if number == 1 else len(detector.calibration_))
        assert (loaded.deciding_image, loaded.input_shape_) == (None, None)
        assert np.array_equal(loaded.score(defective_images).image, detector.score(defective_images).image)


def test_a_detector_in_another_geometry_is_another_object_with_the_same_model(
    tiny_weights: str, normal_images: torch.Tensor
) -> None:
    for detector in detectors(tiny_weights):
        detector.fit(normal_images)
        other = detector.with_transform(Transform(100, 96))
        assert (detector.transform.size, other.transform.size) == (64, 96)
        assert other.threshold_ == detector.threshold_
        assert np.array_equal(other.score(normal_images).image, detector.score(normal_images).image)
        assert other.score(torch.zeros(0, 3, 96, 96)).maps.shape == (0, 96, 96)  # type: ignore[union-attr]


class Failing(Detector):
    """Fits once, and fails half-way the second time."""

    method = "failing"
    false_alarm_rate = 0.5

    def __init__(self) -> None:
        self.transform = SMALL
        self.fits = 0

    def learn(self, images: Images | torch.Tensor, progress: Progress, watch: Watch) -> np.ndarray:
        self.fits += 1
        self.learned_ = self.fits
        if self.fits == 2:
            raise RuntimeError("half-way")
        return np.arange(9, dtype=np.float32)

    def score_batch(self, images: torch.Tensor) -> Scores:
        return Scores(np.full(len(images), self.learned_, np.float32), None)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, *saved: object) -> None:
        raise NotImplementedError


def test_a_fit_that_fails_leaves_no_mixture_of_two_models() -> None:
    detector = Failing().fit(torch.zeros(2, 3, 8, 8))
    assert detector.score(torch.zeros(1, 3, 8, 8)).image == [1]
    with pytest.raises(RuntimeError, match="half-way"):
        detector.fit(torch.zeros(2, 3, 8, 8))
    with pytest.raises(NotFittedError):
        detector.score(torch.zeros(1, 3, 8, 8))


def test_scores_of_batches_are_gathered_in_order_with_their_parts() -> None:
    def batch(start: int, maps: bool) -> Scores:
        image = np.arange(start, start + 2, dtype=np.float32)
        pixels = image[:, None, None] * np.ones((2, 3, 4), np.float32) if maps else None
        return Scores(image, pixels, {"twice": Scores(2 * image, None)})

    gathered = Scores.gathered([batch(0, maps=True), batch(2, maps=True)])
    assert gathered.image.tolist() == [0, 1, 2, 3]
    assert gathered.maps is not None
    assert gathered.maps[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert gathered.parts["twice"].image.tolist() == [0, 2, 4, 6]
    assert gathered.parts["twice"].maps is None
    assert Scores.gathered([batch(0, maps=False)]).maps is None


@pytest.mark.parametrize("name", ["threshold_", "calibration_", "memory_bank_"])
def test_what_is_learned_is_asked_for_too_early_in_one_sentence(name: str) -> None:
    with pytest.raises(NotFittedError, match="this PatchCore has learned nothing yet: call fit"):
        getattr(PatchCore(device="cpu"), name)


def test_other_names_are_unknown_as_usual(tiny_weights: str, normal_images: torch.Tensor) -> None:
    detector = PatchCore("test_resnet", weights=tiny_weights, device="cpu")
    for name in ("nonsense", "__nonsense__", "_nonsense_"):
        with pytest.raises(AttributeError, match=f"'PatchCore' object has no attribute '{name}'"):
            getattr(detector, name)
    with pytest.warns(UserWarning, match="too few"):
        detector.fit(normal_images)
    with pytest.raises(AttributeError, match="no attribute 'thresholds_'"):
        _ = detector.thresholds_


def test_a_detector_is_shown_as_the_call_that_makes_it() -> None:
    one = PatchCore(coreset=0.01, seed=3, device="cpu", precision="fp32")
    assert repr(one) == "PatchCore(coreset=0.01, seed=3, precision='fp32')"
    assert repr(Ensemble([one, one])) == f"Ensemble(members=({one!r}, {one!r}))"
    assert repr(PatchSVDD(K=32, precision="fp32")) == "PatchSVDD(K=32, precision='fp32')"


def test_the_threshold_names_the_image_that_decides_and_robust_leaves_outliers_out(
    tiny_weights: str, normal_images: torch.Tensor, tmp_path: Path
) -> None:
    images = torch.cat([normal_images, normal_images.flip(3), normal_images.flip(2)])
    images[7, :, 20:50, 20:50] = 1  # a defect among the good
    for robust in (False, True):
        detector = PatchCore(
            "test_resnet", weights=tiny_weights, robust=robust, transform=Transform(72, 64), device="cpu"
        )
        detector.fit(images).save(tmp_path / str(robust))
        loaded = load_detector(tmp_path / str(robust), device="cpu")
        assert loaded.threshold_ == detector.threshold_
        assert loaded.outliers.tolist() == detector.outliers.tolist() == ([7] if robust else [])
        assert (loaded.deciding_image == 7) == (not robust)
        assert len(loaded.normal_scores) == len(images) - robust
        assert loaded.set_false_alarm_rate(0.5).threshold_ == conformal_threshold(loaded.normal_scores, 0.5)
