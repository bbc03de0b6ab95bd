"""Brushed steel, a texture that fills the image."""

import numpy as np

from anomaly_lib.datasets.sample import defects
from anomaly_lib.datasets.sample.defects import Defect
from anomaly_lib.datasets.sample.noise import SIZE, Field, Rng, clouds, streaks, wander
from anomaly_lib.datasets.sample.shapes import framed
from anomaly_lib.datasets.sample.surface import Light, Surface, uniform


class Steel:
    """A brushed sheet, ground along one direction."""

    kinds = ("scratch", "pit", "dent", "stain")
    light = Light(azimuth=-1.4, elevation=1.0, ambient=0.5, shininess=40)

    def surface(self, rng: Rng, pose: float, defect: Defect | None) -> Surface:
        """Brush one sheet, with the defect if there is one."""
        angle = uniform(rng, -0.02, 0.02)
        lines = streaks(rng, [(0.055, 70, 0.55), (0.05, 18, 0.5), (0.035, 160, 2.5)], angle)
        surface = Surface.plain((0.40, 0.405, 0.415), 0.25)
        surface.multiply(1 + lines + self._reflection(120 * (pose - 0.5), angle) + 0.015 * clouds(rng, 60))
        surface.height = 2.0 * lines
        if defect is not None:
            self._damage(surface, defect)
        return surface

    @staticmethod
    def _reflection(offset: float, angle: float) -> Field:
        """Broad bright band of the lamp: brushing spreads its mirror image across the grooves."""
        _, across = framed((SIZE / 2, SIZE / 2 + offset), angle)
        return np.float32(0.22) * np.exp(-((across / 130) ** 2))

    @staticmethod
    def _damage(surface: Surface, defect: Defect) -> None:
        rng, between = defect.rng, defect.between
        match defect.kind:
            case "scratch":
                # Never along the brushing, where nobody would see it.
                length, heading = between(18, 52), uniform(rng, 0.35, np.pi - 0.35)
                path = wander(rng, defect.spot(length / 2), length, heading, bend=0.15)
                defects.scratch(surface, path, between(1.2, 2.0), between(0.28, 0.75), (0.85, 0.85, 0.86))
            case "pit":
                radius = between(1.4, 3.0)
                defects.pits(surface, rng, defect.spot(5 * radius), radius, between(0.3, 1.0))
            case "dent":
                radius, stretch = between(6, 13), uniform(rng, 1.0, 1.5)
                spot = defect.spot(1.6 * radius)
                defects.dent(surface, spot, radius, between(0.55, 2.3), stretch, defect.heading())
            case "stain":
                radius = between(8, 18)
                spot = defect.spot(1.7 * radius)
                defects.stain(surface, rng, spot, radius, between(0.15, 0.65), (0.62, 0.52, 0.40))
