import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from anomaly_lib.evaluation.metrics import auroc
from anomaly_lib.views.plots import plot_metric_against, plot_roc


def sweep(n: int, sizes=(128, 224, 320)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"category": f"mvtec_part{i}", "image_size": size, "instance_auroc": rng.uniform(0.9, 0.95)}
            for i in range(n)
            for size in sizes
        ]
    )


def test_roc_encloses_the_auroc_also_with_ties():
    rng = np.random.default_rng(0)
    labels = rng.random(100) < 0.4
    scores = np.round(rng.normal(size=100) + labels, 1)
    ax = plot_roc(scores, labels)
    x, y = ax.lines[-1].get_data()
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(auroc(scores, labels))
    assert f"{auroc(scores, labels):.3f}" in ax.get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize(("labels", "missing"), [([0, 0], "anomalous"), ([1, 1], "good")])
def test_roc_of_one_class_says_what_is_missing(labels, missing):
    ax = plot_roc([1.0, 2.0], labels)
    ax.figure.canvas.draw()
    assert ax.get_legend().get_texts()[0].get_text() == f"no curve, nothing {missing}"


def test_roc_adds_named_curves_of_their_own_colour_to_the_same_axes():
    ax = plot_roc([1.0, 2.0], [0, 1], name="bottle")
    assert plot_roc([1.0, 2.0], [1, 0], name="cable", ax=ax) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "bottle: AUROC 1.000",
        "cable: AUROC 0.000",
    ]
    assert len({line.get_color() for line in ax.lines}) == 3
    assert len(plt.get_fignums()) == 1


def test_lines_have_the_swept_values_as_ticks_in_rising_order():
    frame = sweep(2, sizes=(320, 128, 224))
    ax = plot_metric_against(frame, "image_size", "instance_auroc")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["128", "224", "320"]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[128, 224, 320]] * 2


def test_lines_set_words_out_in_their_order():
    frame = sweep(1).assign(backbone=["wide", "lite", "deep"])
    ax = plot_metric_against(frame, "backbone", "instance_auroc")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["wide", "lite", "deep"]


@pytest.mark.parametrize("n", [1, 3, 15])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("title", ["", "two\nlines"])
def test_lines_are_named_at_their_ends_without_overlap_and_within_the_figure(n, same, title):
    frame = sweep(n)
    if same:
        frame["instance_auroc"] = 1.0
    ax = plot_metric_against(frame, "image_size", "instance_auroc")
    ax.set_title(title)
    ax.figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the line that leads to it
    assert sorted(text.get_text() for text in ax.texts) == sorted(f"part{i}" for i in range(n))
    assert not any(Bbox.intersection(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert all(box.x1 <= ax.figure.bbox.x1 and box.y1 <= ax.figure.bbox.y1 for box in boxes)


def test_lines_leave_empty_cells_out_and_average_repeated_runs():
    frame = pd.DataFrame(
        {"category": "mvtec_a", "size": [1, 2, 3, 3], "aupro": [0.5, np.nan, 0.6, 0.8]},
    )
    frame = pd.concat([frame, pd.DataFrame({"category": ["mvtec_b"], "size": [2], "aupro": [np.nan]})])
    ax = plot_metric_against(frame, "size", "aupro")
    assert len(ax.lines) == 1
    assert ax.lines[0].get_xydata().tolist() == [[1.0, 0.5], [3.0, pytest.approx(0.7)]]


def test_lines_of_close_values_do_not_look_far_apart():
    frame = sweep(1).assign(instance_auroc=[0.990, 0.991, 0.992])
    low, high = plot_metric_against(frame, "image_size", "instance_auroc").get_ylim()
    assert low < 0.97
    assert high > 0.992


def test_a_single_run_and_a_single_unnamed_line_are_drawn():
    assert len(plot_metric_against(sweep(1)[:1], "image_size", "instance_auroc").lines) == 1
    ax = plot_metric_against(sweep(1), "image_size", "instance_auroc", by=None)
    assert not ax.texts


def test_lines_without_any_value_are_refused():
    with pytest.raises(ValueError, match="no value of instance_auroc"):
        plot_metric_against(sweep(1).assign(instance_auroc=np.nan), "image_size", "instance_auroc")
