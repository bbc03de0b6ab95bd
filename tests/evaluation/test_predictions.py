"""Predictions on disk: the documented names, readable without pickle, and damage named."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from anomaly_lib import Predictions, load_predictions
from anomaly_lib.errors import DataError

KEYS = {
    "imagewise_pred",
    "imagewise_gt",
    "fnames",
    "pixelwise_pred",
    "pixelwise_gt",
    "pixelwise_known",
    "imagewise_known",
    "optimal_threshold",
    "threshold",
}


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        imagewise_pred=rng.random(3, dtype=np.float32),
        imagewise_gt=np.array([True, False, True]),
        fnames=np.array(["a/ü 1.png", "b.png", "螺母/c.png"]),
        pixelwise_pred=rng.random((3, 4, 4), dtype=np.float32),
        pixelwise_gt=rng.random((3, 1, 4, 4)) > 0.5,
        pixelwise_known=np.array([True, True, False]),
        optimal_threshold=0.25,
        threshold=math.nan,
    )


def test_what_was_saved_is_loaded_with_its_types(predictions: Predictions, tmp_path: Path) -> None:
    predictions.save(tmp_path / "new" / "p.npz")
    loaded = load_predictions(tmp_path / "new" / "p.npz")
    for field in dataclasses.fields(Predictions):
        before, after = getattr(predictions, field.name), getattr(loaded, field.name)
        assert np.array_equal(before, after, equal_nan=isinstance(before, float))
        assert np.asarray(before).dtype == np.asarray(after).dtype
    assert isinstance(loaded.threshold, float)
    assert isinstance(loaded.optimal_threshold, float)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.npz"]


def test_numpy_reads_the_documented_names_without_pickle(predictions: Predictions, tmp_path: Path) -> None:
    predictions.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as arrays:
        assert set(arrays) == KEYS
        assert arrays["imagewise_pred"].dtype == np.float32
        assert arrays["pixelwise_gt"].shape == (3, 1, 4, 4)
        assert arrays["fnames"][2] == "螺母/c.png"


def test_masks_are_the_truth_without_its_channel(predictions: Predictions) -> None:
    assert predictions.masks.shape == (3, 4, 4)
    assert np.array_equal(predictions.masks, predictions.pixelwise_gt[:, 0])


def test_missing_predictions_say_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no predictions in .*gone\.npz: run `anomaly train`"):
        load_predictions(tmp_path / "gone.npz")


def contents() -> dict[str, bytes]:
    """Return the content of files that are no predictions."""
    import io

    whole, array, other, pickled = (io.BytesIO() for _ in range(4))
    np.savez(whole, **dict.fromkeys(KEYS, np.zeros(3)))
    np.save(array, np.zeros(3))
    np.savez(other, something=np.zeros(3))
    np.savez(pickled, **dict.fromkeys(KEYS, np.array([{}], dtype=object)))
    return {
        "empty": b"",
        "junk": b"junk" * 20,
        "half": whole.getvalue()[:200],
        "single array": array.getvalue(),
        "other arrays": other.getvalue(),
        "pickles": pickled.getvalue(),
    }


@pytest.mark.parametrize("kind", contents())
def test_other_files_are_named_and_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "p.npz").write_bytes(contents()[kind])
    with pytest.raises(DataError, match=r"p\.npz is not a predictions file of this library"):
        load_predictions(str(tmp_path / "p.npz"))
