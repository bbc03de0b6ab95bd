import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import StepPatch
from matplotlib.transforms import Bbox

from anomaly_lib.views.plots import plot_confusion, plot_score_distribution, plot_score_histogram, scores

METRICS = ("instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc")


def results(n: int) -> pd.DataFrame:
    values = np.random.default_rng(0).uniform(0.8, 1.0, (n, 3))
    frame = pd.DataFrame(values, columns=METRICS)
    frame.insert(0, "Row Names", [f"mvtec_part{i}" for i in range(n)])
    frame.loc[n] = ["Mean", *values.mean(axis=0)]
    return frame


def row_labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def points(ax):
    return {line.get_label().split(" (")[0]: line for line in ax.lines if " (" in str(line.get_label())}


def filled(ax):
    return [patch for patch in ax.patches if isinstance(patch, StepPatch) and patch.get_fill()]


def heights(patch):
    return patch.get_data()[0]


def shown_boxes(ax):
    ax.figure.canvas.draw()
    return [text.get_window_extent() for text in ax.texts]


@pytest.mark.parametrize("n", [1, 2, 15])
def test_distribution_draws_each_category_once_and_not_the_mean_row(n):
    ax = plot_score_distribution(results(n))
    names = row_labels(ax)
    assert sorted(names[:n]) == sorted(f"part{i}" for i in range(n))
    assert "Mean" not in names
    assert all(len(line.get_xdata()) == n for line in points(ax).values())


def test_distribution_orders_the_categories_by_the_first_metric():
    table = results(5).set_index("Row Names")
    ax = plot_score_distribution(table, ("full_pixel_auroc", "instance_auroc"))
    drawn = points(ax)["pixel AUROC"].get_xdata()
    assert list(drawn) == sorted(drawn, reverse=True)
    best = table.drop("Mean")["full_pixel_auroc"].idxmax()
    assert f"mvtec_{row_labels(ax)[0]}" == best


def test_distribution_leaves_empty_cells_out_of_the_mean_and_survives_an_empty_metric():
    table = results(3)
    table.loc[0:2, "instance_auroc"] = [0.9, np.nan, 0.8]
    table["full_pixel_auroc"] = np.nan
    legend = [text.get_text() for text in plot_score_distribution(table).get_legend().get_texts()]
    assert legend[0] == "image AUROC (mean 0.850)"
    assert legend[1] == "pixel AUROC (no value)"


def test_distribution_shows_a_score_below_one_half():
    table = results(4)
    table.loc[2, "instance_auroc"] = 0.12
    low, high = plot_score_distribution(table).get_xlim()
    assert low < 0.12
    assert high > 1.0


def test_distribution_shortens_a_long_name():
    table = results(2)
    table.loc[0, "Row Names"] = "mvtec_" + "long_" * 30
    assert max(map(len, row_labels(plot_score_distribution(table))[:2])) < 40


def test_distribution_draws_into_given_axes():
    _, ax = plt.subplots()
    assert plot_score_distribution(results(3), ax=ax) is ax
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [(results(2)[["Row Names"]], "none of instance_auroc"), (results(2).tail(1), "no category")],
)
def test_distribution_says_what_is_missing(table, message):
    with pytest.raises(ValueError, match=message):
        plot_score_distribution(table)


@pytest.mark.parametrize("block", [7, 1 << 22])
@pytest.mark.parametrize("shape", [(90,), (9, 5, 2)])
def test_histogram_counts_every_score_once_in_its_group(monkeypatch, block, shape):
    monkeypatch.setattr(scores, "_BLOCK", block)
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


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [([1.0], [0, 1], "shape"), ([], [], "no scores"), ([1.0, np.nan], [0, 1], "not finite")],
)
@pytest.mark.parametrize("plot", [plot_score_histogram, lambda s, y: plot_confusion(s, y, 1.0)])
def test_scores_that_cannot_be_drawn_are_refused(plot, values, labels, message):
    with pytest.raises(ValueError, match=message):
        plot(values, labels)


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
