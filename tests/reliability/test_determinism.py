"""The same seed on the same machine: the same bytes in any process, the same scores by any batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from process_attacks import commands, fork

from anomaly_lib import PatchCore, PatchSVDD
from anomaly_lib.detectors import Detector, Gaussian

METHODS = ("gaussian", "patch_core", "patch_svdd")


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a run keeps, but for times and for pictures and tables that are made of it."""
    files = [*folder.rglob("results.csv"), *folder.rglob("*.npz"), *folder.rglob("model.*")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_write_the_same_bytes(
    name: str, small_data: Path, tiny_weights: str, tmp_path: Path
) -> None:
    command = commands(small_data, tiny_weights, tmp_path)[name]
    forks = [fork(command(tmp_path / which), tmp_path / f"said_{which}") for which in "ab"]
    assert [one.wait() for one in forks] == [0, 0]
    first, second = (contents(tmp_path / which / "results") for which in "ab")
    assert len(first) == 1 + 2 * 3  # results, and of each category its predictions and its model
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.parametrize("name", METHODS)
def test_batches_and_threads_change_no_score_by_more_than_a_millionth(
    name: str, normal_images: torch.Tensor, defective_images: torch.Tensor, tiny_weights: str
) -> None:
    detector: Detector = {
        "gaussian": lambda: Gaussian("test_resnet", weights=tiny_weights, fold=None, device="cpu"),
        "patch_core": lambda: PatchCore("test_resnet", weights=tiny_weights, device="cpu"),
        "patch_svdd": lambda: PatchSVDD(epochs=1, repeat=1, S=(32, 16), D=4, device="cpu", precision="fp32"),
    }[name]()
    detector.fit(normal_images)
    images = torch.cat([normal_images + 0.01, defective_images]).clamp(0, 1)
    whole = detector.score(images)
    tolerance = 1e-6 * float(np.abs(whole.image).max())
    try:
        for size, threads in ((1, 1), (4, 1), (len(images), 2), (2, 2)):
            torch.set_num_threads(threads)
            batches = [detector.score(batch) for batch in images.split(size)]
            image = np.concatenate([batch.image for batch in batches])
            np.testing.assert_allclose(image, whole.image, rtol=0, atol=tolerance)
    finally:
        torch.set_num_threads(1)
