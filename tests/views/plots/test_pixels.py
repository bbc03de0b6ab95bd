import numpy as np
import pytest

from anomaly_lib.views.plots import map_range


def test_range_is_one_for_all_maps_and_ignores_single_pixels():
    maps = np.random.default_rng(0).random((4, 100, 100))
    maps[0, 0, 0] = 1e6
    low, high = map_range(maps)
    assert low < 0.02
    assert 0.99 < high < 1.01


def test_range_keeps_good_parts_in_the_dark_half():
    low, high = map_range(np.random.default_rng(0).random((4, 50, 50)), threshold=1.2)
    assert (1.2 - low) / (high - low) == pytest.approx(0.5)


def test_range_holds_the_threshold_and_is_not_empty():
    assert map_range(np.ones((2, 4, 4))) == (1.0, 2.0)
    low, high = map_range(np.full((2, 4, 4), 5.0), threshold=1.0)
    assert low <= 1.0 < high


def test_range_of_many_pixels_is_sampled_the_same_way_each_time():
    maps = np.random.default_rng(0).random((5, 1000, 1000), dtype=np.float32)
    assert map_range(maps) == map_range(maps)
    assert map_range(maps) == pytest.approx((0.01, 0.999), abs=1e-3)


@pytest.mark.parametrize("maps", [np.zeros((0, 4, 4)), np.full((1, 4, 4), np.nan)])
def test_range_of_nothing_is_refused(maps):
    with pytest.raises(ValueError, match="finite pixels"):
        map_range(maps)
