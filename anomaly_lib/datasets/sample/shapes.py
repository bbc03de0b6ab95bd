"""Distance functions: negative inside a shape, in pixels, so that every edge can be smooth."""

from functools import cache
from itertools import pairwise

import numpy as np

from anomaly_lib.datasets.sample.noise import SIZE, Field


@cache
def pixel_grid() -> tuple[Field, Field]:
    """Return x and y of every pixel, read-only."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def framed(centre: tuple[float, float], angle: float) -> tuple[Field, Field]:
    """Pixel coordinates in the frame of an object at `centre`, turned by `angle` radians."""
    x, y = pixel_grid()
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def moved(field: Field, right: int, down: int) -> Field:
    """Move a field by whole pixels; what leaves on one side comes back on the other."""
    return np.roll(field, (down, right), axis=(0, 1))


def coverage(distance: Field, softness: float = 1.0) -> Field:
    """Share of each pixel inside the shape: 1 inside, 0 outside, a ramp `softness` pixels wide between."""
    return np.clip(0.5 - distance / np.float32(softness), 0, 1)


def smoothstep(value: Field) -> Field:
    """Rise smoothly from 0 at 0 to 1 at 1."""
    value = np.clip(value, 0, 1)
    value *= value * (3 - 2 * value)
    return value


def rounded_box(x: Field, y: Field, half_width: float, half_height: float, corner: float) -> Field:
    """Distance to a rectangle with rounded corners around the origin."""
    dx = np.abs(x) - np.float32(half_width - corner)
    dy = np.abs(y) - np.float32(half_height - corner)
    outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
    distance: Field = outside + np.minimum(np.maximum(dx, dy), 0) - np.float32(corner)
    return distance


def disc(x: Field, y: Field, radius: float) -> Field:
    """Distance to a disc around the origin."""
    distance: Field = np.hypot(x, y) - np.float32(radius)
    return distance


def polyline(points: Field, reach: float) -> tuple[Field, Field]:
    """Distance to a line through `points` (n, 2), capped at `reach`, and the share of its length so far."""
    x, y = pixel_grid()
    distance = np.full((SIZE, SIZE), reach, np.float32)
    along = np.zeros((SIZE, SIZE), np.float32)
    for k, (start, end) in enumerate(pairwise(points)):
        low = np.clip(np.floor(np.minimum(start, end) - reach), 0, SIZE).astype(int)
        high = np.clip(np.ceil(np.maximum(start, end) + reach) + 1, 0, SIZE).astype(int)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        px, py = x[window] - start[0], y[window] - start[1]
        step = end - start
        t = np.clip((px * step[0] + py * step[1]) / (step @ step), 0, 1)
        here = np.sqrt((px - t * step[0]) ** 2 + (py - t * step[1]) ** 2)
        nearer = here < distance[window]
        distance[window][nearer] = here[nearer]
        along[window][nearer] = (k + t[nearer]) / (len(points) - 1)
    return distance, along
