"""Learning on: further normal images without fitting again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_formats import as_format

from anomaly_lib import Detector, Ensemble, Gaussian, PatchCore, PatchSVDD, Transform, load_detector
from anomaly_lib.errors import DataError, NotFittedError
from anomaly_lib.evaluation.thresholds import conformal_threshold
from anomaly_lib.kernels.neighbors import NeighborIndex

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")
SMALL = Transform(72, 64)


def patch_core(weights: str, **options: Any) -> PatchCore:
    common = {"transform": SMALL, "device": "cpu", "precision": "fp32", "coreset": 0.2}
    return PatchCore("test_resnet", weights=weights, **common | options)


def gaussian(weights: str, **options: Any) -> Gaussian:
    return Gaussian(
        "test_resnet", weights=weights, transform=SMALL, device="cpu", precision="fp32", **options
    )


def patch_svdd(weights: str, **options: Any) -> PatchSVDD:
    return PatchSVDD(K=32, S=(16, 8), epochs=0, transform=SMALL, device="cpu", precision="fp32", **options)


def ensemble(weights: str) -> Ensemble:
    return Ensemble([patch_core(weights), patch_core(weights, seed=1)])


METHODS = pytest.mark.parametrize("make", [patch_core, gaussian, patch_svdd, ensemble])


@pytest.fixture
def images() -> torch.Tensor:
    """24 images of one texture; some details are their own."""
    draw = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 3, 64, 64, generator=draw)
    return (texture + 0.1 * torch.rand(24, 3, 64, 64, generator=draw)).clamp(0, 1)


@pytest.fixture
def scratched(images: torch.Tensor) -> torch.Tensor:
    """Images of a kind that was not there before: with a bright line."""
    lines = images[:6].clone()
    lines[:, :, 30:34, 10:54] = 1
    return lines


@METHODS
def test_what_was_learned_on_is_no_longer_strange(
    make: Callable[..., Detector],
    tiny_weights: str,
    images: torch.Tensor,
    scratched: torch.Tensor,
    tmp_path: Path,
) -> None:
    detector = make(tiny_weights).fit(images)
    other = scratched[5:].flip(3)
    before = detector.score(other).image[0]
    old = detector.score(images).image
    assert detector.update(scratched[:5]) is detector
    assert detector.score(other).image[0] < 0.8 * before
    assert detector.images_ == 29
    assert np.allclose(detector.score(images).image, old, rtol=0.5, atol=before / 4)
    detector.save(tmp_path / "m")
    loaded = load_detector(tmp_path / "m", device="cpu")
    assert np.array_equal(loaded.score(other).image, detector.score(other).image)
    assert loaded.update(images[:2]).images_ == 31


@METHODS
def test_the_calibration_follows_unless_the_images_were_chosen(
    make: Callable[..., Detector], tiny_weights: str, images: torch.Tensor, scratched: torch.Tensor
) -> None:
    detector = make(tiny_weights).fit(images)
    chosen = make(tiny_weights).fit(images).update(scratched, calibrate=False)
    assert len(chosen.calibration_) == len(detector.calibration_)
    detector.update(scratched)
    assert len(detector.calibration_) > len(chosen.calibration_)
    assert detector.calibration_of_.max() >= 24
    assert len(set(detector.calibration_of_.tolist())) == len(detector.calibration_)
    for one in (detector, chosen):
        assert one.threshold_ == conformal_threshold(one.calibration_, one.false_alarm_rate)


@pytest.mark.parametrize(
    "options", [{"fold": None}, {"fold": 0}, {"reduction": "pca", "variance_threshold": 0.9}]
)
def test_a_gaussian_is_the_one_that_sees_all_images_at_once(
    tiny_weights: str, images: torch.Tensor, options: dict[str, Any]
) -> None:
    """But for which images are held out, which is drawn among the first and the further ones separately."""
    updated = gaussian(tiny_weights, **options).fit(images[:14]).update(images[14:], calibrate=False)
    scores = updated.score(images).image
    if options.get("fold", 0) is None:
        whole = gaussian(tiny_weights, **options).fit(images)
        assert scores == pytest.approx(whole.score(images).image, rel=1e-5)
    else:
        assert updated.statistics_ is not None
        assert updated.statistics_.levels()[0].images == 24 - len(updated.calibration_)


def test_a_bank_takes_in_what_it_covers_least(
    tiny_weights: str, images: torch.Tensor, scratched: torch.Tensor
) -> None:
    detector = patch_core(tiny_weights).fit(images)
    rows = detector.memory_bank_.rows.clone()
    detector.update(scratched)
    bank = detector.memory_bank_
    assert torch.equal(bank.rows[: len(rows)], rows)
    assert len(bank) == len(rows) + round(len(rows) / 24 * 6)
    assert bank.image_of[len(rows) :].min() == 24
    features = torch.cat([detector.embed(batch.maps).flatten(0, 2) for batch in detector.features(scratched)])
    distances = NeighborIndex(rows @ bank.projection).search(features @ bank.projection)[0][:, 0]
    farthest = features[distances.argmax()]
    assert torch.allclose(bank.rows[len(rows)], farthest, atol=1e-5)  # the first that is added


@METHODS
def test_a_second_update_goes_on_from_the_first(
    make: Callable[..., Detector], tiny_weights: str, images: torch.Tensor
) -> None:
    detector = make(tiny_weights).fit(images[:12])
    for first in (12, 16, 20):
        detector.update(images[first : first + 4])
    assert detector.images_ == 24
    assert len(set(detector.calibration_of_.tolist())) == len(detector.calibration_)
    assert detector.calibration_of_.max() <= 23


@METHODS
def test_what_fails_half_way_leaves_the_detector_as_it_was(
    make: Callable[..., Detector], tiny_weights: str, images: torch.Tensor
) -> None:
    detector = make(tiny_weights).fit(images)
    scores, threshold = detector.score(images).image, detector.threshold_
    wrong = images[:9].clone()
    wrong[8, 0, 0, 0] = torch.nan
    for bad in (wrong, torch.rand(2, 3, 96, 96), images[:0]):
        with pytest.raises(DataError, match=r"NaN or infinite|96 x 96 pixels|no images"):
            detector.update(bad)
        assert np.array_equal(detector.score(images).image, scores)
        assert (detector.threshold_, detector.images_) == (threshold, 24)


def test_what_was_not_fitted_cannot_learn_on(tiny_weights: str, images: torch.Tensor) -> None:
    with pytest.raises(NotFittedError):
        patch_core(tiny_weights).update(images)


def test_a_gaussian_without_its_statistics_says_so(tiny_weights: str, images: torch.Tensor) -> None:
    detector = gaussian(tiny_weights).fit(images)
    detector.statistics_ = None
    with pytest.raises(DataError, match="saved without its statistics: fit it again"):
        detector.update(images)


def test_a_tampered_calibration_is_refused(tiny_weights: str, images: torch.Tensor, tmp_path: Path) -> None:
    patch_core(tiny_weights).fit(images).save(tmp_path / "m")
    file = tmp_path / "m" / "model.json"
    description = json.loads(file.read_text())
    del description["checksum"]
    file.write_text(json.dumps({**description, "images": 3}))
    with pytest.raises(Exception, match="of images that it has not seen"):
        load_detector(tmp_path / "m", device="cpu")


@pytest.mark.parametrize("make", [patch_core, patch_svdd])
def test_a_model_of_an_earlier_format_learns_on_and_is_read_again(
    make: Callable[..., Detector], tiny_weights: str, images: torch.Tensor, tmp_path: Path
) -> None:
    make(tiny_weights).fit(images).save(tmp_path / "m")
    as_format(2, tmp_path / "m")
    detector = load_detector(tmp_path / "m", device="cpu")
    assert detector.images_ == 24
    detector.update(images[:3]).save(tmp_path / "m")
    loaded = load_detector(tmp_path / "m", device="cpu")
    assert loaded.images_ == 27
    assert loaded.calibration_of_.max() == 26
    assert np.array_equal(loaded.score(images).image, detector.score(images).image)
