"""Pictures of patches and of the maps that a score is made of."""

import numpy as np

from anomaly_lib.views.plots import marked, outlined, plot_parts


def test_a_patch_is_framed_inside_and_the_image_left_as_it_is() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    picture = marked(image, 10, 20, 16)
    changed = picture.any(axis=2)
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 25, 20, 35)
    assert not changed[11:25, 21:35].any()
    assert not image.any()


def test_a_defect_is_outlined_from_outside() -> None:
    mask = np.zeros((60, 80), bool)
    mask[20:30, 30:50] = True
    changed = outlined(np.zeros((60, 80, 3)), mask).any(axis=2)
    assert not changed[mask].any()
    assert changed[19, 30:50].all()
    assert not outlined(np.zeros((60, 80, 3)), np.zeros((60, 80))).any()


def test_each_kind_of_map_has_colours_of_its_own_the_same_in_all_rows() -> None:
    maps = np.random.default_rng(0).random((2, 40, 40))
    maps[1] *= 0.5
    images = [np.full((40, 40, 3), 0.5)] * 2
    figure = plot_parts(images, {"K64": maps, "product": 1000 * maps}, ["good", "bad"], [maps[0] > 0.9] * 2)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 6
    assert np.array_equal(shown[1], shown[2])  # the same maps in another unit
    assert shown[1].mean() > shown[4].mean()  # darker in the second row
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["good", "K64", "product", "bad", "K64", "product"]
