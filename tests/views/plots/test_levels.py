"""What each level finds, drawn."""

import numpy as np
import pytest

from anomaly_lib.views.plots import plot_level_maps


@pytest.mark.parametrize("number", [1, 4, 9, 12])
def test_every_map_has_a_panel_with_its_title_after_the_image(number: int) -> None:
    rng = np.random.default_rng(0)
    maps = {f"level {i}": rng.random((20, 20)) for i in range(number)}
    mask = np.zeros((20, 20), bool)
    mask[5:9, 5:9] = True
    figure = plot_level_maps(rng.random((20, 20, 3)), maps, mask)
    titles = [ax.get_title() for ax in figure.axes if ax.images]
    assert titles == ["image", *maps]
    for ax, one_map in zip(figure.axes[1:], maps.values(), strict=False):
        assert np.array_equal(ax.images[0].get_array(), one_map)
        assert ax.images[0].get_clim() == (np.median(one_map), one_map.max())
        assert len(ax.collections) == 1  # the outline of the defect
    assert not plot_level_maps(np.zeros((20, 20, 3)), maps).axes[0].collections


def test_no_map_is_refused() -> None:
    with pytest.raises(ValueError, match="no map"):
        plot_level_maps(np.zeros((4, 4, 3)), {})
