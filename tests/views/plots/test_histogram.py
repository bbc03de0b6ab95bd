import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import StepPatch
from matplotlib.transforms import Bbox

from anomaly_lib.views.plots import histogram, plot_score_histogram


def filled(ax):
    return [patch for patch in ax.patches if isinstance(patch, StepPatch) and patch.get_fill()]


def heights(patch):
    return patch.get_data()[0]


def shown_boxes(ax):
    ax.figure.canvas.draw()
    return [text.get_window_extent() for text in ax.texts]


@pytest.mark.parametrize("block", [7, 1 << 22])
@pytest.mark.parametrize("shape", [(90,), (9, 5, 2)])
def test_histogram_counts_every_score_once_in_its_group(monkeypatch, block, shape):
    monkeypatch.setattr(histogram, "_BLOCK", block)
    rng = np.random.default_rng(1)
    values, labels = rng.normal(size=shape).astype(np.float32), rng.random(shape) < 0.3
    good, anomalous = filled(plot_score_histogram(values, labels, bins=20))
    expected, edges = np.histogram(values[labels], 20, (float(values.min()), float(values.max())))
    assert heights(anomalous).tolist() == expected.tolist()
    assert np.allclose(anomalous.get_data().edges, edges)
    assert heights(good).sum() == (~labels).sum()


def test_histogram_takes_any_nonzero_label_as_anomalous():
    ax = plot_score_histogram([1.0, 2.0, 3.0], np.array([0, 255, 1], np.uint8))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["good (n = 1)", "anomalous (n = 2)"]


def test_histogram_draws_each_threshold_at_its_value_even_outside_the_scores():
    ax = plot_score_histogram(np.arange(10.0), np.arange(10) > 5, {"model": 5.5, "far": 30.0})
    drawn = {line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1}
    assert drawn == {5.5, 30.0}
    assert ax.get_xlim()[1] > 30.0


@pytest.mark.parametrize("at", [(1.0, 1.0, 1.001), (5.0, 5.01, 5.02), (9.0, 8.999, 8.9), (1.0, 5.0, 9.0)])
@pytest.mark.parametrize("width", [4.0, 10.0])
def test_histogram_labels_of_close_thresholds_do_not_overlap(at, width):
    _, ax = plt.subplots(figsize=(width, 3.6), layout="constrained")
    names = ("F1-optimal", "model threshold", "median")
    values = np.linspace(0, 10, 60)
    plot_score_histogram(values, values > 4, dict(zip(names, at, strict=True)), ax=ax)
    boxes = shown_boxes(ax)
    assert len(boxes) == 3
    assert not any(Bbox.intersection(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert all(ax.figure.bbox.x0 <= box.x0 and box.x1 <= ax.figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize("threshold", [np.inf, -np.inf, np.nan])
def test_histogram_names_a_threshold_that_has_no_place(threshold):
    ax = plot_score_histogram([1.0, 2.0], [0, 1], {"model": threshold})
    assert "not drawn" in ax.texts[0].get_text()


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [0, 1, 1]])
@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [1.0, 2.0, 4.0]])
def test_histogram_draws_degenerate_scores(values, labels, log):
    ax = plot_score_histogram(values, labels, {"model": 1.0}, log=log)
    ax.figure.canvas.draw()
    assert ax.get_yscale() == ("log" if log else "linear")
