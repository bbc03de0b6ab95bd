"""Interactive views for notebooks, made of ipywidgets."""

import base64
import html
import io
from functools import lru_cache
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from anomaly_lib.datasets import read_picture
from anomaly_lib.errors import DataError
from anomaly_lib.evaluation.predictions import Predictions
from anomaly_lib.evaluation.thresholds import f1_optimal_threshold
from anomaly_lib.views.plots import plot_confusion
from anomaly_lib.views.plots.style import WIDTH

_THUMBNAIL = 100  # pixels
_MOST_THUMBNAILS = 8  # as many as fit into the width of a notebook


def threshold_slider(predictions: Predictions) -> widgets.VBox:
    """Return a slider for the image threshold, a picture of its mistakes, and the images themselves.

    It starts at the model's own threshold; where that is nan at the F1-optimal one, and where there is none
    either at the median score. Two buttons return to the first two.

    Raises
    ------
    ValueError
        When there are no scores, or one is not finite.
    """
    predictions = predictions.judged
    scores, truth = predictions.imagewise_pred, predictions.imagewise_gt
    own, optimal = predictions.threshold, f1_optimal_threshold(scores, truth)
    candidates = (own, optimal, float(np.median(scores)))
    slider = _slider(scores, next(value for value in candidates if np.isfinite(value)))
    picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
    missed, alarms = widgets.HTML(), widgets.HTML()

    def show(_: object = None) -> None:
        called = scores >= np.float64(slider.value)
        picture.value = _confusion_png(predictions, slider.value)
        missed.value = _thumbnails("Missed defects", predictions, truth & ~called, slider.value)
        alarms.value = _thumbnails("False alarms", predictions, ~truth & called, slider.value)

    slider.observe(show, names="value")
    show()
    buttons = [
        _button("model's own threshold", own, slider),
        _button("F1-optimal threshold", optimal, slider),
    ]
    return widgets.VBox([widgets.HBox([slider, *buttons]), picture, missed, alarms])


def _slider(scores: np.ndarray, start: float) -> widgets.FloatSlider:
    low, high = min(start, float(scores.min())), max(start, float(scores.max()))
    margin = 0.02 * (high - low) or 0.5
    return widgets.FloatSlider(
        value=start,
        min=low - margin,
        max=high + margin,
        step=(high - low + 2 * margin) / 400,
        description="threshold",
        readout_format=".5g",
        layout=widgets.Layout(flex="1 1 auto", max_width="500px"),
    )


def _button(name: str, threshold: float, slider: widgets.FloatSlider) -> widgets.Button:
    """Return a button that moves the slider to a threshold; greyed out where there is none."""
    button = widgets.Button(
        description=name, disabled=not np.isfinite(threshold), layout=widgets.Layout(width="auto")
    )

    def move(_: widgets.Button) -> None:
        slider.value = threshold

    button.on_click(move)
    return button


def _confusion_png(predictions: Predictions, threshold: float) -> bytes:
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    plot_confusion(predictions.imagewise_pred, predictions.imagewise_gt, threshold, ax=figure.subplots())
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _thumbnails(title: str, predictions: Predictions, chosen: np.ndarray, threshold: float) -> str:
    """Return HTML: how many images are `chosen` (n,), and a row of those farthest from the threshold."""
    places = np.flatnonzero(chosen)
    distance = np.abs(predictions.imagewise_pred[places] - threshold)
    places = places[np.argsort(-distance, kind="stable")]
    heading = f"<b>{title}: {len(places)}</b>"
    if len(places) > _MOST_THUMBNAILS:
        heading += f", the {_MOST_THUMBNAILS} farthest from the threshold"
    cells = [
        f'<div style="width:{_THUMBNAIL}px; line-height:1.3">{_image(str(predictions.fnames[i]))}<br>'
        f"{_caption(str(predictions.fnames[i]))}<br>{predictions.imagewise_pred[i]:.5g}</div>"
        for i in places[:_MOST_THUMBNAILS]
    ]
    return f'{heading}<div style="display:flex; flex-wrap:wrap; gap:8px">{"".join(cells)}</div>'


def _caption(name: str) -> str:
    return html.escape("/".join([*Path(name).parts[-2:-1], Path(name).stem]))


@lru_cache(maxsize=512)
def _image(name: str) -> str:
    """Return the file as a small embedded picture; nothing when it is no longer there."""
    try:
        picture = read_picture(Path(name))
    except DataError:
        return ""
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=85)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
