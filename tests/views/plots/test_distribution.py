import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from anomaly_lib.views.plots import plot_score_distribution

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
