"""A detector's threshold, from its calibration scores."""

import math
import warnings
from typing import Protocol

import numpy as np

from anomaly_lib.evaluation.thresholds import conformal_threshold


def calibrated_threshold(scores: np.ndarray, false_alarm_rate: float, takes: str = "two") -> float:
    """Return `threshold_` for calibration scores (n,), all finite.

    Without any it is nan and a warning says so, and how many images a detector `takes` to have some.
    """
    if len(scores) and not scores.any():
        warnings.warn(
            "the normal images are all the same, so that any other one will be called anomalous: give images "
            "of different good parts",
            stacklevel=4,
        )
    if len(scores):
        return conformal_threshold(scores, false_alarm_rate)
    warnings.warn(f"no threshold: it takes at least {takes} normal images to learn one", stacklevel=4)
    return math.nan


class Calibrated(Protocol):
    """A fitted detector."""

    threshold_: float
    false_alarm_rate: float

    @property
    def normal_scores(self) -> np.ndarray:
        """The scores (n,) that the threshold is from."""


def promise(detector: Calibrated) -> str:
    """Return what the threshold of a fitted detector is and promises, as a sentence."""
    images = len(detector.normal_scores)
    if math.isnan(detector.threshold_):
        return "no threshold: there were too few pictures to learn one from"
    if not images:
        return f"threshold {detector.threshold_:.6g}, of which the model does not say what it is from"
    rate = max(detector.false_alarm_rate, 1 / (images + 1))
    return (
        f"threshold {detector.threshold_:.6g}, from {images} scores: of good parts like these, at most "
        f"{100 * rate:.3g} % are called anomalous"
    )
