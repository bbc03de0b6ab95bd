"""Pictures with what was found in them."""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from anomaly_lib.predict import Answer
from anomaly_lib.views.plots.marked_picture import draw_marked_picture, save_marked_picture

PICTURE = np.full((60, 90, 3), 100, np.uint8)


def answer(**changes: object) -> Answer:
    spot = np.ones((30, 30), np.float32)
    spot[10:15, 10:15] = 6
    values = {
        "path": Path("parts/007.png"),
        "label": "anomalous",
        "score": 6.0,
        "threshold": 4.0,
        "p_value": 0.01,
        "size": (90, 60),
        "seen": (15.0, 0.0, 75.0, 60.0),
        "input_map": spot,
    }
    return Answer(**(values | changes))


def test_the_verdict_and_the_score_in_units_of_the_threshold_stand_above() -> None:
    figure, axes = plt.subplots(1, 2)
    draw_marked_picture(axes, PICTURE, answer())
    assert figure.get_suptitle() == "anomalous, 1.50 of the threshold: parts/007.png"
    plt.close(figure)
    figure, axes = plt.subplots(1, 2)
    draw_marked_picture(axes, PICTURE, answer(threshold=math.nan, label="no threshold"))
    assert figure.get_suptitle() == "score 6, no threshold: parts/007.png"
    plt.close(figure)


def test_every_picture_of_a_model_has_the_same_colours() -> None:
    for spot in (answer(), answer(label="good", input_map=np.full((30, 30), 0.4, np.float32))):
        figure, axes = plt.subplots(1, 2)
        draw_marked_picture(axes, PICTURE, spot)
        [image] = axes[1].images
        assert image.get_clim() == (0, 2)
        shown = np.ma.filled(image.get_array().astype(float), np.nan)
        assert np.allclose(shown, spot.map / 4, equal_nan=True)
        assert bool(axes[0].collections) == (spot.label == "anomalous")  # the outline
        plt.close(figure)


def test_what_the_model_did_not_look_at_is_paler() -> None:
    figure, axes = plt.subplots(1, 2)
    draw_marked_picture(axes, PICTURE, answer())
    shown = axes[0].images[0].get_array()
    assert (shown[:, 15:75] == 100).all()
    assert (shown[:, :15] > 150).all()
    assert (shown[:, 75:] > 150).all()
    plt.close(figure)


@pytest.mark.parametrize("changes", [{}, {"input_map": None}, {"path": None}, {"path": Path("a $x$.png")}])
def test_it_is_saved(tmp_path: Path, changes: dict[str, object]) -> None:
    save_marked_picture(tmp_path / "a.png", PICTURE, answer(**changes))
    assert Image.open(tmp_path / "a.png").width > 900
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_large_photograph_is_drawn_small(tmp_path: Path) -> None:
    large = np.zeros((3000, 4000, 3), np.uint8)
    save_marked_picture(
        tmp_path / "a.png", large, answer(size=(4000, 3000), seen=(500.0, 0.0, 3500.0, 3000.0))
    )
    assert (tmp_path / "a.png").stat().st_size < 500_000
