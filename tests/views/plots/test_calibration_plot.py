"""The calibration scores beside those of fresh good parts."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from anomaly_lib.views import plot_calibration


def test_the_curves_say_which_share_reaches_a_score() -> None:
    ax = plot_calibration([1.0, 2.0, 4.0, 3.0], [1.0], 2.0, ax=Figure().subplots())
    first, second = (patch.get_data() for patch in ax.patches)
    assert first.values.tolist() == [1.0, 0.75, 0.5, 0.25]
    assert first.edges.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]  # in units of the threshold
    assert second.values.tolist() == [1.0]
    assert ax.get_xlabel() == "share of the threshold"


def test_without_a_threshold_scores_are_as_they_are() -> None:
    ax = plot_calibration([1.0, 2.0], [3.0], math.nan, ax=Figure().subplots())
    assert ax.patches[0].get_data().edges.tolist() == [0.0, 1.0, 2.0]
    assert ax.get_xlabel() == "image score"
    assert not ax.lines


def test_scores_that_are_none_are_refused() -> None:
    for scores in ([], [np.nan]):
        with pytest.raises(ValueError, match=r"no scores|not finite"):
            plot_calibration([1.0], scores, 1.0, ax=Figure().subplots())
