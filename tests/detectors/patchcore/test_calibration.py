"""The threshold's scores are those of fresh good parts: on generated and on real pictures."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_lib import ImageFiles, PatchCore, Transform, read_category
from anomaly_lib.datasets.sample.photograph import photograph

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*too few")]


@functools.cache
def photographs(category: str, seed: int) -> torch.Tensor:
    """Return 40 good parts that nobody has seen, (40, 3, 128, 128) in [0, 1]."""
    pictures = [
        Image.fromarray(photograph(category, seed, number, "good", 0.0).image) for number in range(40)
    ]
    return torch.stack([Transform(146, 128).image(picture) for picture in pictures]).float() / 255


@pytest.mark.parametrize("coreset", [0.01, 0.1])
@pytest.mark.parametrize("category", ["cloth", "connector", "gear", "steel"])
def test_the_median_is_that_of_fresh_parts(category: str, coreset: float) -> None:
    detector = PatchCore(coreset=coreset, transform=Transform(146, 128), device="cpu", precision="fp32")
    detector.fit(photographs(category, 0))
    fresh = detector.score(photographs(category, 1)).image
    assert np.median(detector.calibration_) == pytest.approx(np.median(fresh), rel=0.1)


@pytest.mark.parametrize("coreset", [0.01, 0.1])
@pytest.mark.parametrize("data", ["mvtec_ad/bottle", "defects/magnetic_tile"])
def test_the_median_is_that_of_fresh_real_parts(shared_data: Path, data: str, coreset: float) -> None:
    folder = shared_data / data
    files = read_category(folder.parent, folder.name).train
    order = np.random.default_rng(0).permutation(len(files))
    detector = PatchCore(coreset=coreset, transform=Transform(146, 128), device="cpu", precision="fp32")
    detector.fit(ImageFiles([files[i] for i in order[:100]], detector.transform))
    fresh = detector.score(ImageFiles([files[i] for i in order[100:160]], detector.transform)).image
    assert np.median(detector.calibration_) == pytest.approx(np.median(fresh), rel=0.1)
