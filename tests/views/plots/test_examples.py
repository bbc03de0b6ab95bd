import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from anomaly_lib.views.plots import map_range, plot_examples, plot_gallery, save_segmentation_image


def example(n: int = 3, size: int = 32):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (n, size, size, 3), dtype=np.uint8)
    maps = rng.random((n, size, size)).astype(np.float32) * np.arange(1, n + 1)[:, None, None]
    masks = np.zeros((n, size, size), bool)
    masks[:, 4:9, 4:9] = True
    return images, maps, masks, [f"{i:03d}.png" for i in range(n)]


def panels(figure):
    """Rows of four axes; the colour bar is last."""
    axes = figure.axes[:-1]
    return [axes[start : start + 4] for start in range(0, len(axes), 4)]


def words(figure):
    inside = [text.get_text() for ax in figure.axes for text in ax.texts]
    return [text.get_text() for text in figure.texts] + inside


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


@pytest.mark.parametrize("given", [None, (0.0, 9.0)])
def test_examples_use_one_colour_range_in_all_maps_and_on_the_scale(given):
    images, maps, masks, titles = example(5)
    figure = plot_examples(images, maps, masks, titles, 1.5, value_range=given)
    ranges = {row[1].images[0].get_clim() for row in panels(figure)}
    assert ranges == {given or map_range(maps, 1.5)}
    assert figure.axes[-1].get_xlim() == next(iter(ranges))


def test_examples_mark_exactly_the_pixels_at_or_above_the_threshold():
    images, maps, masks, titles = example(1)
    maps[:] = 0.0
    maps[0, 3, 5], maps[0, 7, 7] = 2.0, 1.999
    figure = plot_examples(images, maps, masks, titles, 2.0)
    overlay = panels(figure)[0][2].images[1].get_array()
    assert list(zip(*np.nonzero(overlay[..., 3]), strict=True)) == [(3, 5)]


def test_examples_say_where_there_is_no_mask_and_no_defect():
    images, maps, masks, titles = example(3)
    figure = plot_examples(images, maps, [None, np.zeros_like(masks[1]), masks[2]], titles, 1.0)
    remarks = [[text.get_text() for text in row[3].texts] for row in panels(figure)]
    assert remarks == [["no mask"], ["no defect"], [""]]


@pytest.mark.parametrize("threshold", [-1.0, 1.5, 1e6, np.inf, np.nan])
@pytest.mark.parametrize("full", [False, True])
def test_examples_draw_with_any_threshold_and_mask(threshold, full):
    images, maps, masks, titles = example(2)
    plot_examples(images, maps, masks | full, titles, threshold, value_range=(0, 3)).canvas.draw()


def test_examples_take_floats_grey_images_and_maps_of_another_size():
    images, maps, masks, titles = example(2)
    grey = [images[0] / 255.0, images[1][..., 0]]
    figure = plot_examples(grey, maps[:, ::4, ::4], masks, titles, 1.0)
    (first, *others), _ = panels(figure)
    assert all(ax.get_xlim() == first.get_xlim() and ax.get_ylim() == first.get_ylim() for ax in others)
    assert np.array_equal(first.images[0].get_array(), images[0])


def test_examples_keep_titles_within_the_figure():
    images, maps, masks, titles = example(2)
    titles = ["W" * 300 + "/end.png", "$not_maths"]
    figure = plot_examples(images, maps, masks, titles, 1.0)
    figure.canvas.draw()
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.texts)
    assert any(text.endswith("/end.png") for text in words(figure))
    assert "$not_maths" in words(figure)


def test_examples_refuse_lists_of_different_lengths():
    images, maps, masks, titles = example(2)
    with pytest.raises(ValueError, match="got 2, 2, 2, 1"):
        plot_examples(images, maps, masks, titles[:1], 1.0)


def test_gallery_shows_every_image_with_its_caption_row_by_row():
    images = example(7)[0]
    figure = plot_gallery(images, [f"part {i}" for i in range(7)], columns=3)
    assert len(figure.axes) == 7
    assert words(figure) == [f"part {i}" for i in range(7)]
    tops = [round(ax.get_position().y1, 6) for ax in figure.axes]
    assert len(set(tops)) == 3


@pytest.mark.parametrize("name", ["broken_large/" + "0123456789" * 20, "W" * 99, "IMG " * 50])
def test_gallery_breaks_and_cuts_long_captions_so_that_neighbours_do_not_meet(name):
    images = example(4)[0]
    figure = plot_gallery(images, [name] * 4)
    figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in figure.texts), key=lambda box: (-box.y0, box.x0))
    assert len(boxes) == 8
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes) if a.y0 == b.y0)


def test_gallery_refuses_missing_captions():
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        plot_gallery(example(2)[0], ["one"])


def test_whole_figures_are_not_kept_by_pyplot_and_leave_the_current_figure_alone():
    mine = plt.figure()
    images, maps, masks, titles = example(2)
    plot_examples(images, maps, masks, titles, 1.0)
    plot_gallery(images, titles)
    assert plt.get_fignums() == [mine.number]
    assert plt.gcf() is mine


@pytest.mark.parametrize("threshold", [None, 1.0, 1e9])
def test_segmentation_image_has_three_panels_of_the_size_of_the_image(tmp_path, threshold):
    image, anomaly_map, mask = (part[0] for part in example(1, 40)[:3])
    path = tmp_path / "new" / "000.png"
    save_segmentation_image(path, image, mask, anomaly_map[::2, ::2], (0.0, 2.0), threshold)
    written = np.asarray(Image.open(path))
    assert written.shape == (40, 3 * 40 + 2 * 4, 3)
    assert np.array_equal(written[:, :40], image)
    assert np.array_equal(written[:, 44:84, 0] == 255, mask)


def test_segmentation_image_colours_do_not_depend_on_the_image(tmp_path):
    image, mask = np.zeros((8, 8, 3), np.uint8), None
    colours = []
    for i, other in enumerate((1.0, 5.0)):
        anomaly_map = np.full((8, 8), 0.5)
        anomaly_map[0, 0] = other
        save_segmentation_image(tmp_path / f"{i}.png", image, mask, anomaly_map, (0.0, 5.0))
        colours.append(np.asarray(Image.open(tmp_path / f"{i}.png"))[-1, -1].tolist())
    assert colours[0] == colours[1]


def test_segmentation_image_outlines_what_reaches_the_threshold(tmp_path):
    anomaly_map = np.zeros((40, 40))
    anomaly_map[10:30, 10:30] = 1.0
    for name, threshold in (("plain", None), ("outlined", 1.0)):
        save_segmentation_image(
            tmp_path / f"{name}.png", np.zeros((40, 40, 3)), None, anomaly_map, (0, 1), threshold
        )
    plain, outlined = (
        np.asarray(Image.open(tmp_path / f"{name}.png"))[:, 88:] for name in ("plain", "outlined")
    )
    changed = (plain != outlined).any(axis=2)
    assert changed[10, 20]
    assert changed.sum() == 20 * 20 - 16 * 16
