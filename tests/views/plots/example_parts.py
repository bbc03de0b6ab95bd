"""What the tests of pictures of parts draw."""

import numpy as np


def example(n: int = 3, size: int = 32):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (n, size, size, 3), dtype=np.uint8)
    maps = rng.random((n, size, size)).astype(np.float32) * np.arange(1, n + 1)[:, None, None]
    masks = np.zeros((n, size, size), bool)
    masks[:, 4:9, 4:9] = True
    return images, maps, masks, [f"{i:03d}.png" for i in range(n)]


def words(figure):
    inside = [text.get_text() for ax in figure.axes for text in ax.texts]
    return [text.get_text() for text in figure.texts] + inside
