from dataclasses import replace
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from anomaly_lib import Predictions
from anomaly_lib.views.widgets import threshold_slider


@pytest.fixture
def predictions(tmp_path: Path) -> Predictions:
    """Return three good and three defective images: at a threshold of 0.5 one of each is called wrongly."""
    names = [tmp_path / kind / f"{i}.png" for kind in ("good", "a & b") for i in range(3)]
    for name in names:
        name.parent.mkdir(exist_ok=True)
        Image.new("RGB", (300, 200), (10, 120, 200)).save(name)
    return Predictions(
        imagewise_pred=np.array([0.1, 0.2, 0.6, 0.3, 0.8, 0.9], np.float32),
        imagewise_gt=np.array([False] * 3 + [True] * 3),
        fnames=np.array([str(name) for name in names]),
        pixelwise_pred=np.zeros((6, 8, 8), np.float32),
        pixelwise_gt=np.zeros((6, 1, 8, 8), bool),
        pixelwise_known=np.ones(6, bool),
        optimal_threshold=np.nan,
        threshold=0.5,
    )


class Parts:
    def __init__(self, box: widgets.VBox) -> None:
        bar, self.picture, self.missed, self.alarms = box.children
        self.slider, *self.buttons = bar.children


def test_moving_the_slider_changes_the_figure_and_its_text(predictions: Predictions):
    parts = Parts(threshold_slider(predictions))
    before = bytes(parts.picture.value)
    assert before.startswith(b"\x89PNG")
    assert "<b>Missed defects: 1</b>" in parts.missed.value
    assert "<b>False alarms: 1</b>" in parts.alarms.value
    parts.slider.value = 0.7
    assert bytes(parts.picture.value) != before
    assert "<b>Missed defects: 1</b>" in parts.missed.value
    assert "<b>False alarms: 0</b>" in parts.alarms.value
    parts.slider.value = 0.85
    assert "<b>Missed defects: 2</b>" in parts.missed.value


def test_a_score_at_the_threshold_is_called_anomalous(predictions: Predictions):
    parts = Parts(threshold_slider(predictions))
    parts.slider.value = float(np.float32(0.6))
    assert "<b>False alarms: 1</b>" in parts.alarms.value


def test_images_that_are_called_wrongly_are_shown_with_name_and_score(predictions: Predictions):
    parts = Parts(threshold_slider(predictions))
    assert parts.missed.value.count('<img alt="" src="data:image/jpeg;base64,') == 1
    assert "a &amp; b/0<br>0.3" in parts.missed.value
    assert "good/2<br>0.6" in parts.alarms.value


@pytest.mark.parametrize(
    ("own", "truth", "start"),
    [
        (0.5, [False] * 3 + [True] * 3, 0.5),
        (np.nan, [False] * 3 + [True] * 3, 0.3),  # F1-optimal
        (np.nan, [False] * 6, 0.45),  # the median
    ],
)
def test_starts_at_the_first_threshold_there_is(
    predictions: Predictions, own: float, truth: list[bool], start: float
):
    parts = Parts(threshold_slider(replace(predictions, threshold=own, imagewise_gt=np.array(truth))))
    assert parts.slider.value == pytest.approx(start)


def test_buttons_return_to_the_named_thresholds(predictions: Predictions):
    parts = Parts(threshold_slider(predictions))
    own, optimal = parts.buttons
    optimal.click()
    assert parts.slider.value == pytest.approx(0.3)
    own.click()
    assert parts.slider.value == pytest.approx(0.5)


def test_button_of_a_threshold_that_there_is_not_is_off(predictions: Predictions):
    nothing = replace(predictions, threshold=np.nan, imagewise_gt=np.zeros(6, bool))
    assert [button.disabled for button in Parts(threshold_slider(nothing)).buttons] == [True, True]


def test_threshold_outside_of_the_scores_is_within_the_slider(predictions: Predictions):
    parts = Parts(threshold_slider(replace(predictions, threshold=7.0)))
    assert parts.slider.value == 7.0
    assert "<b>Missed defects: 3</b>" in parts.missed.value


def test_equal_scores_leave_room_to_move(predictions: Predictions):
    parts = Parts(threshold_slider(replace(predictions, imagewise_pred=np.full(6, 0.5, np.float32))))
    assert parts.slider.min < parts.slider.value < parts.slider.max


def test_image_files_may_be_gone(predictions: Predictions):
    gone = replace(predictions, fnames=np.array([f"gone/{i}.png" for i in range(6)]))
    parts = Parts(threshold_slider(gone))
    assert "gone/3<br>0.3" in parts.missed.value
    assert "<img" not in parts.missed.value


def test_of_many_images_the_worst_are_shown(predictions: Predictions):
    many = {
        name: np.repeat(values, 5, axis=0) for name, values in vars(predictions).items() if np.ndim(values)
    }
    parts = Parts(threshold_slider(replace(predictions, **many)))
    parts.slider.value = 0.95
    assert "<b>Missed defects: 15</b>, the 8 farthest from the threshold" in parts.missed.value
    assert parts.missed.value.count("<img") == 8
