from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly_lib import Predictions, Transform
from anomaly_lib.views.worst import (
    EXAMPLE_METRICS,
    example_table,
    pixel_threshold,
    plot_chosen,
    rank_categories,
)


def results(*values: float) -> pd.DataFrame:
    names = [f"mvtec_part{i}" for i in range(len(values))]
    table = pd.DataFrame({"instance_auroc": values}, index=pd.Index(names, name="Row Names"))
    table.loc["Mean"] = table.mean()
    return table


@pytest.fixture
def predictions(tmp_path: Path) -> Predictions:
    """Return a good image, one with a defect that is half found, and one with a defect but no mask."""
    names = [tmp_path / "lid" / "test" / kind / "000.png" for kind in ("good", "dent", "rust")]
    for name in names:
        name.parent.mkdir(parents=True)
        Image.new("RGB", (40, 32), (10, 120, 200)).save(name)
    masks = np.zeros((3, 1, 16, 16), bool)
    masks[1, 0, 4:8, 4:8] = True
    maps = np.full((3, 16, 16), 0.1, np.float32)
    maps[1, 4:8, 4:6] = 0.9
    return Predictions(
        imagewise_pred=np.array([0.3, 0.9, 0.4], np.float32),
        imagewise_gt=np.array([False, True, True]),
        fnames=np.array([str(name) for name in names]),
        pixelwise_pred=maps,
        pixelwise_gt=masks,
        pixelwise_known=np.array([True, True, False]),
        optimal_threshold=0.8,
        threshold=0.5,
    )


def test_categories_are_ranked_from_the_worst_to_the_best():
    assert rank_categories(results(0.9, 0.5, 1.0)) == ["mvtec_part1", "mvtec_part0", "mvtec_part2"]


def test_categories_of_equal_results_keep_their_order():
    assert rank_categories(results(1.0, 1.0)) == ["mvtec_part0", "mvtec_part1"]


def test_category_without_a_value_is_not_ranked():
    assert rank_categories(results(0.9, np.nan, 0.8)) == ["mvtec_part2", "mvtec_part0"]


def test_without_any_value_all_categories_are_kept_and_a_message_says_so(caplog: pytest.LogCaptureFixture):
    assert rank_categories(results(np.nan, np.nan)) == ["mvtec_part0", "mvtec_part1"]
    assert "no category has a value of instance_auroc" in caplog.text


def test_table_measures_every_image_by_itself(predictions: Predictions):
    table = example_table(predictions)
    assert list(table["image"]) == ["good/000.png", "dent/000.png", "rust/000.png"]
    assert list(table["anomalous"]) == [False, True, True]
    assert table.loc[1, "pixel_recall"] == 0.5
    assert table.loc[1, "pixel_f1"] == pytest.approx(2 * 8 / (8 + 16))
    assert table.loc[1, "pixel_auroc"] == pytest.approx(0.75)
    assert table.loc[[0, 2], ["pixel_recall", "pixel_f1", "pixel_auroc"]].isna().all(axis=None)
    assert set(EXAMPLE_METRICS) <= set(table.columns)


def test_margin_is_negative_for_wrong_decisions(predictions: Predictions):
    assert example_table(predictions)["image_margin"].to_numpy() == pytest.approx([0.4, 0.8, -0.2], rel=1e-6)


def test_another_threshold_for_pixels_may_be_given(predictions: Predictions):
    assert example_table(predictions, threshold=0.05).loc[1, "pixel_recall"] == 1.0


def test_without_masks_the_models_own_threshold_binarises(predictions: Predictions):
    assert pixel_threshold(predictions) == 0.8
    assert pixel_threshold(replace(predictions, optimal_threshold=np.nan)) == 0.5


def test_detector_without_maps_has_image_metrics_only(predictions: Predictions):
    table = example_table(replace(predictions, pixelwise_pred=np.zeros((0, 0, 0), np.float32)))
    assert table["pixel_f1"].isna().all()
    assert table["image_margin"].notna().all()


def test_picture_shows_the_chosen_rows_with_their_metric(predictions: Predictions):
    chosen = example_table(predictions).sort_values("pixel_f1").iloc[[0, 2]]
    figure = plot_chosen(predictions, chosen, "pixel_f1", Transform(16, 16))
    texts = [text.get_text() for text in figure.texts]
    assert "dent/000.png: image score 1.8, pixel f1 0.67" in texts
    assert "rust/000.png: image score 0.8" in texts
    assert not [text for text in texts if text.startswith("good")]
