"""The share of fresh good images that reach the threshold, over many random splits of real ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom

from anomaly_lib import Detector, Gaussian, PatchCore, PatchSVDD, Transform
from anomaly_lib.datasets.images import ImageFiles
from anomaly_lib.evaluation.thresholds import conformal_threshold

SPLITS, FITTED, FRESH, RATE = 100, 60, 20, 0.1
TRANSFORM = Transform(64, square=True)


def patch_core(folder: Path) -> Detector:
    return PatchCore(coreset=0.05, transform=TRANSFORM, device="cpu", precision="fp32")


def gaussian(folder: Path) -> Detector:
    return Gaussian(levels=(4, 5), fold=None, transform=TRANSFORM, device="cpu", precision="fp32")


def patch_svdd(folder: Path) -> Detector:
    encoder = folder / "patch_svdd" / "bottle_enchier.pkl"
    options = {"K": 32, "S": (64, 16), "threshold_images": FITTED, "transform": TRANSFORM, "device": "cpu"}
    return PatchSVDD(weights=encoder, **options)


@pytest.fixture(scope="module")
def bottles(shared_data: Path) -> torch.Tensor:
    """All 229 good bottles, small."""
    folder = shared_data / "mvtec_ad" / "bottle"
    files = [*sorted((folder / "train/good").iterdir()), *sorted((folder / "test/good").iterdir())]
    return torch.cat(list(ImageFiles(files, TRANSFORM)))


@pytest.mark.parametrize("make", [patch_core, gaussian, patch_svdd])
def test_the_realised_rate_is_the_nominal_one(
    make: Callable[[Path], Detector], bottles: torch.Tensor, shared_data: Path
) -> None:
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(SPLITS):
        order = torch.from_numpy(rng.permutation(len(bottles)))
        detector = make(shared_data).fit(bottles[order[:FITTED]])
        threshold = conformal_threshold(detector.calibration_, RATE)
        fresh = detector.score(
            bottles[order[FITTED : FITTED + 20]]
        ).image  # independent enough of other splits
        alarms.append(int((fresh >= threshold).sum()))
    realised = sum(alarms) / (FRESH * SPLITS)
    print(f" {realised:.4f}", end="")
    low, high = binom.interval(0.9999, FRESH * SPLITS, RATE)
    assert low <= sum(alarms) <= high, (
        f"{realised:.4f} of {FRESH * SPLITS} fresh images, where {RATE} was promised"
    )
