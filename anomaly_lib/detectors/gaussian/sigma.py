"""What the Gaussians themselves say of decisions: thresholds at so many sigma, without any held-out image."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from anomaly_lib.detectors.gaussian.level_models import LevelModel
from anomaly_lib.evaluation.predictions import Scores
from anomaly_lib.evaluation.thresholds import chi_square_threshold


def sigma_thresholds(models: Sequence[LevelModel], sigmas: Sequence[int]) -> np.ndarray:
    """Return (levels, sigmas): the distances that a Gaussian of each model's dimensions stays below."""
    return np.array([[chi_square_threshold(model.dimensions, sigma) for sigma in sigmas] for model in models])


def sigma_table(scores: Mapping[int, Scores], thresholds: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return the hits and false alarms of each level's scores at its `thresholds` (levels, sigmas).

    A row a level and sigma; the columns are ``level``, ``sigma``, ``threshold``, ``true_positive_rate`` and
    ``false_positive_rate``, which are nan where there is nothing to take a share of. `labels` (n,) are true
    for a defect.
    """
    rows = []
    for (level, of_level), level_thresholds in zip(scores.items(), thresholds, strict=True):
        for sigma, threshold in enumerate(level_thresholds, start=1):
            rows.append(
                {
                    "level": level,
                    "sigma": sigma,
                    "threshold": threshold,
                    "true_positive_rate": _share(of_level.image[labels] >= threshold),
                    "false_positive_rate": _share(of_level.image[~labels] >= threshold),
                }
            )
    return pd.DataFrame(rows)


def _share(decisions: np.ndarray) -> float:
    return float(decisions.mean()) if len(decisions) else math.nan
