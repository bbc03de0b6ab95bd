"""A run's metrics and pictures for TensorBoard."""

import logging
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from anomaly_lib.evaluation.predictions import Predictions
from anomaly_lib.runs.tensorboard import write_tensorboard


def predictions(threshold: float) -> Predictions:
    maps = np.random.default_rng(0).random((4, 8, 8), dtype=np.float32)
    return Predictions(
        imagewise_pred=maps.max(axis=(1, 2)),
        imagewise_gt=np.array([True, False, True, False]),
        fnames=np.array(["a", "b", "c", "d"]),
        pixelwise_pred=maps,
        pixelwise_gt=np.zeros((4, 1, 8, 8), bool),
        pixelwise_known=np.ones(4, bool),
        optimal_threshold=0.5,
        threshold=threshold,
    )


@pytest.mark.parametrize("threshold", [0.5, math.nan])
def test_known_metrics_become_scalars_and_the_scores_a_figure(tmp_path: Path, threshold: float) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    values = {"instance_auroc": 0.75, "aupro": math.nan}
    write_tensorboard(tmp_path / "tb" / "mvtec_disc", values, predictions(threshold))
    events = accumulator.EventAccumulator(str(tmp_path / "tb" / "mvtec_disc"))
    events.Reload()
    assert events.Tags()["scalars"] == ["instance_auroc"]
    assert events.Scalars("instance_auroc")[0].value == 0.75
    assert events.Tags()["images"] == ["image scores"]


def test_without_the_package_a_warning_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with caplog.at_level(logging.WARNING, logger="anomaly_lib"):
        write_tensorboard(tmp_path / "tb", {"instance_auroc": 1.0}, predictions(0.5))
    assert "install the package tensorboard" in caplog.text
    assert not (tmp_path / "tb").exists()
