"""No image, and no set of images to fit on, reads as good because a number was not finite."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_lib import Detector, Ensemble, Gaussian, PatchCore, PatchSVDD, Scores, Transform, load_detector
from anomaly_lib.detectors.sources import TensorImages
from anomaly_lib.errors import AnomalyError, DataError, NotFittedError

pytestmark = pytest.mark.filterwarnings("ignore:.*too few", "ignore:.*no threshold", "ignore:.*all the same")

SMALL = Transform(resize=72, crop=64)
OPTIONS: dict[str, Any] = {"transform": SMALL, "device": "cpu", "precision": "fp32"}

Make = Callable[[], Detector]


@pytest.fixture(scope="module", params=["patch_core", "gaussian", "patch_svdd", "ensemble"])
def make(request: pytest.FixtureRequest, tiny_weights: str) -> Make:
    """Return a function that makes a new detector of each method."""
    tiny: dict[str, Any] = {"backbone": "test_resnet", "weights": tiny_weights, **OPTIONS}
    made: dict[str, Make] = {
        "patch_core": lambda: PatchCore(coreset=0.3, **tiny),
        "gaussian": lambda: Gaussian(fold=None, **tiny),
        "patch_svdd": lambda: PatchSVDD(D=4, epochs=0, S=(64, 32), **OPTIONS),
        "ensemble": lambda: Ensemble([PatchCore(layers=[f"layer{i}"], coreset=0.3, **tiny) for i in (2, 3)]),
    }
    return made[str(request.param)]


@pytest.fixture(scope="module")
def fitted(make: Make, normal_images: torch.Tensor) -> Detector:
    return make().fit(normal_images)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, 255.0, 2.5, -2.2])
def test_one_odd_pixel_of_a_large_batch_is_refused(
    make: Make, fitted: Detector, normal_images: torch.Tensor, value: float
) -> None:
    images = normal_images.repeat(6, 1, 1, 1)
    images[29, 1, 40, 17] = value
    for use in (fitted.score, make().fit):
        with pytest.raises(DataError, match=r"images are floats in \[0, 1\]"):
            use(images)
        with pytest.raises(DataError, match=r"images are floats in \[0, 1\]"):
            use(TensorImages(images, batch_size=36))


def test_images_in_255_are_told_to_be_divided(fitted: Detector, normal_images: torch.Tensor) -> None:
    with pytest.raises(DataError, match="divide 8-bit images by 255"):
        fitted.score(normal_images * 255)


def test_pixels_a_little_outside_are_scored(fitted: Detector, normal_images: torch.Tensor) -> None:
    """Sharpening and noise leave [0, 1]."""
    assert np.isfinite(fitted.score(normal_images * 1.4 - 0.2).image).all()


def test_half_precision_images_score_like_the_same_numbers(
    fitted: Detector, normal_images: torch.Tensor
) -> None:
    half = normal_images.half()
    assert np.array_equal(fitted.score(half).image, fitted.score(half.float()).image)
    with pytest.raises(DataError, match="NaN or infinite"):
        fitted.score((normal_images * 1e5).half())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_an_error(
    fitted: Detector, normal_images: torch.Tensor, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Scores(np.array([0.1, value], np.float32), None)
    monkeypatch.setattr(fitted, "score_batch", lambda images: wrong)
    with pytest.raises(DataError, match="no finite score"):
        fitted.score(normal_images[:2])
    with pytest.raises(DataError, match="no finite score"):
        fitted.verdicts(wrong)


# --- Verdicts ---


def test_an_image_at_the_threshold_is_anomalous(fitted: Detector) -> None:
    limit = np.float32(fitted.threshold_)
    image = np.array([np.nextafter(limit, np.float32(-np.inf)), limit, limit * 2], np.float32)
    assert fitted.verdicts(Scores(image, None)) == ["good", "anomalous", "anomalous"]
    assert fitted.verdicts(Scores(image[:0], None)) == []


def test_without_a_threshold_no_image_is_good(
    make: Make, normal_images: torch.Tensor, tmp_path: Path
) -> None:
    model = make().fit(normal_images)
    model.threshold_ = math.nan
    model.save(tmp_path / "model")
    for one in (model, load_detector(tmp_path / "model", device="cpu")):
        assert one.verdicts(one.score(normal_images)) == ["no threshold"] * 6


def test_there_are_no_verdicts_before_a_fit(make: Make) -> None:
    with pytest.raises(NotFittedError):
        make().verdicts(Scores(np.zeros(1, np.float32), None))


# --- Few images, and equal ones ---


@pytest.mark.parametrize("images", [1, 2, 3])
@pytest.mark.parametrize("equal", [True, False])
def test_few_or_equal_images_make_a_finite_model_or_a_sentence(
    make: Make, normal_images: torch.Tensor, defective_images: torch.Tensor, images: int, equal: bool
) -> None:
    chosen = normal_images[:1].expand(images, -1, -1, -1) if equal else normal_images[:images]
    try:
        model = make().fit(chosen)
    except AnomalyError as error:
        assert "give" in str(error) or "needs" in str(error)  # noqa: PT017
        return
    assert math.isnan(model.threshold_) or 0 < model.threshold_ < math.inf
    scores = model.score(defective_images)
    assert (scores.image > 0).all()
    expected = {"no threshold"} if math.isnan(model.threshold_) else {"good", "anomalous"}
    assert set(model.verdicts(scores)) <= expected


def test_equal_images_are_warned_of(tiny_weights: str, normal_images: torch.Tensor) -> None:
    model = PatchCore("test_resnet", weights=tiny_weights, sampler="identity", **OPTIONS)
    with pytest.warns(UserWarning, match="all the same"):
        model.fit(normal_images[:1].repeat(3, 1, 1, 1))
    assert 0 < model.threshold_ < 1e-6


def test_equal_images_have_no_gaussian(tiny_weights: str, normal_images: torch.Tensor) -> None:
    model = Gaussian("test_resnet", weights=tiny_weights, **OPTIONS)
    with pytest.raises(DataError, match="all the same"):
        model.fit(normal_images[:1].repeat(2, 1, 1, 1))


def test_members_of_a_single_row_make_no_ensemble(tiny_weights: str, normal_images: torch.Tensor) -> None:
    members = [PatchCore("test_resnet", weights=tiny_weights, coreset=1e-9, **OPTIONS) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match="no unit for its scores"):
            Ensemble(members).fit(normal_images[:1])


def test_a_single_row_still_scores(tiny_weights: str, normal_images: torch.Tensor) -> None:
    model = PatchCore("test_resnet", weights=tiny_weights, coreset=1e-9, **OPTIONS).fit(normal_images)
    scores = model.score(normal_images)
    assert (scores.image > 0).all()
    assert math.isnan(model.threshold_) or 0 < model.threshold_ < math.inf
