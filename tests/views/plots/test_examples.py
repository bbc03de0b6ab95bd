import numpy as np
import pytest
from example_parts import example, words

from anomaly_lib.views.plots import map_range, plot_examples


def panels(figure):
    """Rows of four axes; the colour bar is last."""
    axes = figure.axes[:-1]
    return [axes[start : start + 4] for start in range(0, len(axes), 4)]


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
