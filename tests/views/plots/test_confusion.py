import time

import matplotlib.pyplot as plt
import numpy as np
import pytest

from anomaly_lib.views.plots import plot_confusion


def test_confusion_counts_missed_defects_and_false_alarms_with_equality_as_anomalous():
    #                       good: 1 false alarm   anomalous: 2 missed, 3.0 is called
    ax = plot_confusion([1.0, 2.0, 3.0, 1.0, 2.9, 3.0, 5.0], [0, 0, 0, 1, 1, 1, 1], 3.0)
    assert "missed defects 2 of 4" in ax.get_title(loc="left")
    assert "false alarms 1 of 3" in ax.get_title(loc="left")
    crosses = np.concatenate([line.get_xdata() for line in ax.lines if line.get_marker() == "x"])
    assert sorted(crosses) == pytest.approx([1.0, 2.9, 3.0])
    assert any(list(line.get_xdata()) == [3.0, 3.0] for line in ax.lines)


def test_confusion_compares_in_the_precision_of_the_threshold():
    just_below = np.float64(np.float32(0.1)) + 1e-12  # the same as 0.1 in float32, but above the score
    ax = plot_confusion(np.array([0.1, 0.0], np.float32), [1, 0], just_below)
    assert "missed defects 1 of 1" in ax.get_title(loc="left")


def test_confusion_keeps_its_axes_while_the_threshold_moves_within_the_scores():
    values, labels = [1.0, 2.0, 4.0], [0, 0, 1]
    limits = {plot_confusion(values, labels, threshold).get_xlim() for threshold in (1.0, 2.5, 4.0)}
    assert len(limits) == 1


@pytest.mark.parametrize("threshold", [-5.0, 9.0, np.inf, np.nan])
def test_confusion_survives_a_threshold_beyond_the_scores(threshold):
    ax = plot_confusion([1.0, 2.0], [1, 1], threshold)
    ax.figure.canvas.draw()
    assert "false alarms 0 of 0" in ax.get_title(loc="left")


def test_confusion_is_quick_enough_for_a_slider():
    rng = np.random.default_rng(0)
    values, labels = rng.random(200), rng.random(200) < 0.5
    _, ax = plt.subplots(figsize=(9.5, 2.8))
    seconds = []
    for threshold in (0.2, 0.5, 0.7):
        ax.clear()
        start = time.process_time()
        plot_confusion(values, labels, threshold, ax=ax)
        ax.figure.canvas.draw()
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.2
