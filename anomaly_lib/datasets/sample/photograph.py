"""One photograph of a category, with or without a defect, and the mask of what the defect changed."""

import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anomaly_lib.datasets.sample.cloth import Cloth
from anomaly_lib.datasets.sample.connector import Connector
from anomaly_lib.datasets.sample.defects import Defect
from anomaly_lib.datasets.sample.gear import Gear
from anomaly_lib.datasets.sample.noise import Field, Rng, grain
from anomaly_lib.datasets.sample.steel import Steel
from anomaly_lib.datasets.sample.surface import Camera, Light, Surface, bounding_box


class Category(Protocol):
    """Something to photograph."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of defect that can befall it."""

    @property
    def light(self) -> Light:
        """The lamp it is photographed under."""

    def surface(self, rng: Rng, pose: float, defect: Defect | None) -> Surface:
        """Make one piece; the same `rng` gives the same piece with and without the defect.

        `pose` between 0 and 1 says how it lies.
        """


CATEGORIES: dict[str, Category] = {
    "cloth": Cloth(),
    "steel": Steel(),
    "connector": Connector(),
    "gear": Gear(),
}

GOOD = "good"
GOLDEN_RATIO = (1 + 5**0.5) / 2
VISIBLE_CHANGE = 2 / 255  # a smaller difference is below the noise of the sensor


@dataclass(frozen=True)
class Photograph:
    """An image (h, w, 3), the same piece without its defect, and the mask (h, w) of the difference."""

    image: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def photograph(category: str, seed: int, number: int, kind: str = GOOD, severity: float = 0.0) -> Photograph:
    """Photograph one piece of a category; `seed` and the `number` of the image decide every random number."""
    streams = np.random.SeedSequence([seed, zlib.crc32(category.encode()), number]).spawn(4)
    scene_rng, setup_rng, defect_rng = (np.random.default_rng(stream) for stream in streams[:3])
    light, camera = CATEGORIES[category].light.jittered(setup_rng), Camera.draw(setup_rng)

    # Multiples of the golden ratio spread evenly: no pose of a test image is far from all training images.
    pose = number * GOLDEN_RATIO % 1

    def picture(defect: Defect | None, rng: Rng) -> Field:
        return camera.develop(light.shade(CATEGORIES[category].surface(rng, pose, defect)))

    noise = grain(np.random.default_rng(streams[3]), channels=3)
    clean = picture(None, scene_rng)
    if kind == GOOD:
        image = camera.expose(clean, noise)
        return Photograph(image, image, np.zeros(clean.shape[:2], np.bool_))
    damaged = picture(Defect(kind, severity, defect_rng), np.random.default_rng(streams[0]))
    mask = _changed(clean, damaged)
    image = camera.expose(np.where(mask[..., None], damaged, clean), noise)
    return Photograph(image, camera.expose(clean, noise), mask)


def _changed(clean: Field, damaged: Field) -> NDArray[np.bool_]:
    """Where the two pictures differ visibly: closed patches, without stray pixels."""
    difference = np.abs(damaged - clean)
    largest = np.maximum(np.maximum(difference[..., 0], difference[..., 1]), difference[..., 2])
    changed = largest > VISIBLE_CHANGE
    mask: NDArray[np.bool_] = np.zeros_like(changed)
    window = bounding_box(changed)
    inside = changed[window]
    closed = inside | ndimage.binary_closing(inside, iterations=2)
    mask[window] = _without_specks(ndimage.binary_fill_holes(closed))
    return mask


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drop patches smaller than a twentieth of the largest."""
    patches, count = ndimage.label(mask)
    areas = np.bincount(patches.ravel(), minlength=count + 1)
    areas[0] = 0
    kept: NDArray[np.bool_] = (areas >= max(areas.max() / 20, 1))[patches]
    return kept
