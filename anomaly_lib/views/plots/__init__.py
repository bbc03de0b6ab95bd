"""Pictures of scores, of examples and of curves, drawn with matplotlib.

A function that draws into one pair of axes takes an `ax` and returns it; without one it opens a pyplot
figure, which a notebook shows by itself. A function that composes a whole figure returns the `Figure`, which
belongs to nobody else: a notebook shows it as the value of a cell, and a loop over a thousand parts keeps
none of them open.
"""

from anomaly_lib.views.plots.calibration import plot_calibration
from anomaly_lib.views.plots.confusion import plot_confusion
from anomaly_lib.views.plots.curves import plot_metric_against, plot_roc
from anomaly_lib.views.plots.distribution import plot_score_distribution
from anomaly_lib.views.plots.examples import plot_examples
from anomaly_lib.views.plots.gallery import plot_gallery
from anomaly_lib.views.plots.histogram import plot_score_histogram
from anomaly_lib.views.plots.levels import plot_level_maps
from anomaly_lib.views.plots.marked_picture import save_marked_picture
from anomaly_lib.views.plots.patches import marked, outlined, plot_parts
from anomaly_lib.views.plots.pixels import map_range

__all__ = [
    "map_range",
    "marked",
    "outlined",
    "plot_calibration",
    "plot_confusion",
    "plot_examples",
    "plot_gallery",
    "plot_level_maps",
    "plot_metric_against",
    "plot_parts",
    "plot_roc",
    "plot_score_distribution",
    "plot_score_histogram",
    "save_marked_picture",
]
