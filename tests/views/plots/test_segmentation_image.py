import numpy as np
import pytest
from example_parts import example
from PIL import Image

from anomaly_lib.views.plots import save_segmentation_image


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
