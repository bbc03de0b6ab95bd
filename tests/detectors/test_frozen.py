"""What detectors on a frozen backbone share."""

import torch

from anomaly_lib import Gaussian, PatchCore, Transform
from anomaly_lib.detectors.frozen import FrozenDetector


def patchcore(weights: str, **options: object) -> FrozenDetector:
    settings = {"transform": Transform(72, 64), "device": "cpu", "precision": "fp32"}
    return PatchCore("test_resnet", weights=weights, **(settings | options))


def test_detectors_that_see_the_same_features_have_the_same_key(tiny_weights: str) -> None:
    one = patchcore(tiny_weights, coreset=0.5, seed=3)
    other = patchcore(tiny_weights, num_nn=2)
    assert one.feature_key == other.feature_key
    assert hash(one.feature_key) == hash(other.feature_key)


def test_whatever_changes_features_changes_the_key(tiny_weights: str) -> None:
    detectors = [
        patchcore(tiny_weights),
        patchcore("random"),
        patchcore(tiny_weights, layers=["layer2"]),
        patchcore(tiny_weights, transform=Transform(80, 64)),
        patchcore(tiny_weights, precision="bf16"),
        patchcore(tiny_weights, official_batch_norm=True),
        Gaussian("test_resnet", weights=tiny_weights, transform=Transform(64, square=True), device="cpu"),
    ]
    assert len({detector.feature_key for detector in detectors}) == len(detectors)


def test_a_change_is_done_to_every_batch(tiny_weights: str, normal_images: torch.Tensor) -> None:
    detector = patchcore(tiny_weights)
    [upside_down] = detector.features(normal_images.flip(2))
    [changed] = detector.features(normal_images, change=lambda images: images.flip(2))
    assert changed.size == (64, 64)
    for one, other in zip(changed.maps, upside_down.maps, strict=True):
        assert torch.equal(one, other)
