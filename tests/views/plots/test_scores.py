import numpy as np
import pytest

from anomaly_lib.views.plots import plot_confusion, plot_score_histogram


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [([1.0], [0, 1], "shape"), ([], [], "no scores"), ([1.0, np.nan], [0, 1], "not finite")],
)
@pytest.mark.parametrize("plot", [plot_score_histogram, lambda s, y: plot_confusion(s, y, 1.0)])
def test_scores_that_cannot_be_drawn_are_refused(plot, values, labels, message):
    with pytest.raises(ValueError, match=message):
        plot(values, labels)
