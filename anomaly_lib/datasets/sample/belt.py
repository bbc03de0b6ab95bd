"""The conveyor belt that the objects lie on."""

import numpy as np

from anomaly_lib.datasets.sample.noise import Rng, clouds, grain
from anomaly_lib.datasets.sample.shapes import framed
from anomaly_lib.datasets.sample.surface import Colour, Surface, uniform


def mat(rng: Rng, colour: Colour, mesh: float, relief: float) -> Surface:
    """Lay out the rubber belt under the part: a fine mesh of the given pitch that moves along."""
    surface = Surface.plain(colour, 0.02)
    x, y = framed((uniform(rng, 0, mesh), uniform(rng, 0, mesh)), np.pi / 4 + uniform(rng, -0.01, 0.01))
    waves = np.sin(x * np.float32(2 * np.pi / mesh)) * np.sin(y * np.float32(2 * np.pi / mesh))
    surface.height = np.float32(relief) * (waves + 0.25 * grain(rng))
    surface.multiply(1 + 0.025 * clouds(rng, 90, 2) + 0.04 * grain(rng) + 0.06 * waves)
    return surface
