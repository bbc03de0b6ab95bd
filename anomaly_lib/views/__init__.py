"""What people look at: plots, tables of the worst and best examples, widgets for notebooks."""

from typing import TYPE_CHECKING

from anomaly_lib.lazy import lazy_names

if TYPE_CHECKING:
    from anomaly_lib.views.explorer import explore
    from anomaly_lib.views.plots import (
        map_range,
        marked,
        outlined,
        plot_calibration,
        plot_confusion,
        plot_examples,
        plot_gallery,
        plot_level_maps,
        plot_metric_against,
        plot_parts,
        plot_roc,
        plot_score_distribution,
        plot_score_histogram,
        save_marked_picture,
    )
    from anomaly_lib.views.worst import example_table, pixel_threshold, plot_chosen, rank_categories

_WHERE = {
    "example_table": "views.worst.example_table",
    "explore": "views.explorer.explore",
    "map_range": "views.plots.map_range",
    "marked": "views.plots.marked",
    "outlined": "views.plots.outlined",
    "pixel_threshold": "views.worst.pixel_threshold",
    "plot_chosen": "views.worst.plot_chosen",
    "plot_calibration": "views.plots.plot_calibration",
    "plot_confusion": "views.plots.plot_confusion",
    "plot_examples": "views.plots.plot_examples",
    "plot_gallery": "views.plots.plot_gallery",
    "plot_level_maps": "views.plots.plot_level_maps",
    "plot_metric_against": "views.plots.plot_metric_against",
    "plot_parts": "views.plots.plot_parts",
    "plot_roc": "views.plots.plot_roc",
    "plot_score_distribution": "views.plots.plot_score_distribution",
    "plot_score_histogram": "views.plots.plot_score_histogram",
    "rank_categories": "views.worst.rank_categories",
    "save_marked_picture": "views.plots.save_marked_picture",
}

__all__ = [
    "example_table",
    "explore",
    "map_range",
    "marked",
    "outlined",
    "pixel_threshold",
    "plot_calibration",
    "plot_chosen",
    "plot_confusion",
    "plot_examples",
    "plot_gallery",
    "plot_level_maps",
    "plot_metric_against",
    "plot_parts",
    "plot_roc",
    "plot_score_distribution",
    "plot_score_histogram",
    "rank_categories",
    "save_marked_picture",
]

__getattr__, __dir__ = lazy_names(__name__, _WHERE)
