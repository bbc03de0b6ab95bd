import itertools

import matplotlib.pyplot as plt
import pytest
from example_parts import example, words

from anomaly_lib.views.plots import plot_examples, plot_gallery


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
