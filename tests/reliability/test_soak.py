"""Thousands of predictions and dozens of fits in one process: no memory, handle or thread stays behind."""

import gc
import os
import threading
from pathlib import Path

import pytest
import torch

from anomaly_lib import PatchCore
from anomaly_lib.detectors import Gaussian
from anomaly_lib.runs.training_log import TrainingLog


def memory() -> int:
    """Return the bytes that this process has in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells what a process has")
@pytest.mark.parametrize(
    ("predictions", "fits", "growth"),
    [(100, 4, 0.15), pytest.param(2000, 50, 0.05, marks=pytest.mark.torture)],
)
def test_nothing_stays_behind(
    predictions: int, fits: int, growth: float, normal_images: torch.Tensor, tiny_weights: str, tmp_path: Path
) -> None:
    def fit(number: int) -> Gaussian | PatchCore:
        if number % 2:
            return Gaussian("test_resnet", weights=tiny_weights, fold=None, device="cpu").fit(normal_images)
        return PatchCore("test_resnet", weights=tiny_weights, device="cpu").fit(normal_images)

    def work(predictions: int, fits: int) -> None:
        for number in range(fits):
            detector = fit(number)
            detector.save(tmp_path / f"model_{number % 2}")
            log = TrainingLog(tmp_path / "log.csv", lambda early: {}, tmp_path / f"events_{number}")
            log(1, {"loss": 1.0}, None)
            for _ in range(-(-predictions // fits)):
                detector.score(normal_images[:1])

    work(max(20, predictions // 10), max(2, fits // 10))  # what is loaded or reserved once
    before = memory(), handles(), threading.active_count()
    work(predictions, fits)
    assert memory() <= (1 + growth) * before[0]
    assert handles() <= before[1]
    assert threading.active_count() <= before[2]
