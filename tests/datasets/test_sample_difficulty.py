"""How hard the sample data set is for PatchCore, so that the workshop has something to find.

Minutes rather than seconds, so one generator seed by default; SAMPLE_SEEDS=0,1,2,3 in the environment
takes more of them.
"""

import os
from pathlib import Path

import pytest

from anomaly_lib.datasets import read_category
from anomaly_lib.datasets.sample import generate_sample
from anomaly_lib.detectors.patchcore import PatchCore
from anomaly_lib.metrics import auroc
from anomaly_lib.transforms import Transform

SEEDS = [int(seed) for seed in os.environ.get("SAMPLE_SEEDS", "0").split(",")]


@pytest.fixture(scope="module", params=SEEDS)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_sample(tmp_path_factory.mktemp("sample"), seed=request.param)


def image_auroc(root: Path, category: str, size: int) -> float:
    """Image AUROC of PatchCore with its defaults (10 % coreset) at an image size."""
    data = read_category(root, category)
    transform = Transform(resize=round(size * 256 / 224), crop=size)
    detector = PatchCore(transform=transform, precision="fp32").fit(data.train_images(transform))
    return auroc(detector.score(data.test_images(transform)).image, data.labels)


def test_categories_differ_in_difficulty(root: Path) -> None:
    values = {category: image_auroc(root, category, 224) for category in ("cloth", "steel", "connector")}
    worst = image_auroc(root, "gear", 224)
    assert values["connector"] >= 0.98
    assert 0.75 <= worst <= 0.92
    assert all(worst < value for value in values.values())


def test_larger_images_help_where_defects_are_small(root: Path) -> None:
    small, medium, large = (image_auroc(root, "gear", size) for size in (128, 224, 320))
    assert small + 0.05 < medium < large
