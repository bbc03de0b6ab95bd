"""How hard the sample data set is for PatchCore, so that the workshop has something to find.

It holds for generator seeds, not for one lucky draw.
"""

from pathlib import Path

import pytest

from anomaly_lib.datasets import read_category
from anomaly_lib.datasets.sample import generate_sample
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.patchcore import PatchCore
from anomaly_lib.evaluation.metrics import auroc


def image_auroc(root: Path, category: str, size: int) -> float:
    """Image AUROC of PatchCore with its defaults (10 % coreset) at an image size."""
    data = read_category(root, category)
    transform = Transform(resize=round(size * 256 / 224), crop=size)
    detector = PatchCore(transform=transform, precision="fp32").fit(data.train_images(transform))
    return auroc(detector.score(data.test_images(transform)).image, data.labels)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_category_is_easy_and_the_one_with_small_defects_gains_by_larger_images(
    tmp_path: Path, seed: int
) -> None:
    generate_sample(tmp_path, seed, categories=("connector", "gear"))
    assert image_auroc(tmp_path, "connector", 224) >= 0.98
    small, medium, large = (image_auroc(tmp_path, "gear", size) for size in (128, 224, 320))
    assert 0.75 <= medium <= 0.92
    assert small + 0.05 < medium < large


@pytest.mark.slow
def test_the_textures_are_neither_the_worst_nor_all_perfect(tmp_path: Path) -> None:
    generate_sample(tmp_path, 0, categories=("cloth", "steel"))
    for category in ("cloth", "steel"):
        assert 0.92 < image_auroc(tmp_path, category, 224) < 1
