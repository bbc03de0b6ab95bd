"""A gear, the object that lies as it fell."""

import numpy as np
from numpy.typing import NDArray

from anomaly_lib.datasets.sample import defects
from anomaly_lib.datasets.sample.belt import mat
from anomaly_lib.datasets.sample.defects import Defect, Point
from anomaly_lib.datasets.sample.noise import SIZE, Field, Rng, clouds, grain, jagged, wander, wavering
from anomaly_lib.datasets.sample.shapes import coverage, disc, framed, moved, rounded_box, smoothstep
from anomaly_lib.datasets.sample.surface import Light, Surface, tinted, uniform


class Gear:
    """A steel gear with holes in its web, turned by any angle."""

    kinds = ("chipped_tooth", "crack", "scratch", "rust", "dent", "heat_tint")
    light = Light(azimuth=-2.2, elevation=0.95, ambient=0.4, shininess=22)

    def surface(self, rng: Rng, pose: float, defect: Defect | None) -> Surface:
        """Lay one gear on the belt, with the defect if there is one."""
        surface = mat(rng, (0.05, 0.07, 0.06), mesh=12, relief=0.5)
        centre = SIZE / 2 + uniform(rng, -8, 8), SIZE / 2 + uniform(rng, -8, 8)
        wheel = _Wheel(centre, 2 * np.pi * pose + uniform(rng, -0.04, 0.04), defect)
        surface.shadow(0.7 * smoothstep(0.5 - moved(wheel.body, 9, 12) / 16))
        wheel.machine(surface, rng, self.light.azimuth + uniform(rng, -0.1, 0.1))
        if defect is not None:
            self._damage(surface, defect, wheel)
        return surface

    @staticmethod
    def _damage(surface: Surface, defect: Defect, wheel: "_Wheel") -> None:
        rng, between = defect.rng, defect.between
        bearing = uniform(rng, 0, 2 * np.pi)
        on_rim = wheel.place(uniform(rng, 148, 156), bearing)
        hole = wheel.hole(int(rng.integers(wheel.HOLES)))
        match defect.kind:
            case "crack":
                length = between(16, 36)
                path = jagged(rng, wheel.place(wheel.WEB + 23 + length / 2, hole), length, hole)
                defects.crack(surface, path, between(1.4, 2.8), 0.9, edge=(0.3, 0.29, 0.27))
            case "scratch":
                path = wander(rng, on_rim, between(25, 75), bearing + uniform(rng, 0.8, 2.3), bend=0.15)
                defects.scratch(surface, path, between(1.2, 2.8), between(0.5, 1.0), (0.95, 0.95, 0.93))
            case "rust":
                spot = wheel.place(uniform(rng, 92, 112), hole + np.pi / wheel.HOLES)
                defects.stain(surface, rng, spot, between(7, 16), between(0.5, 0.9), (0.5, 0.25, 0.1))
            case "dent":
                defects.dent(surface, on_rim, between(6, 13), between(2, 7), 1.2, bearing)
            case "heat_tint":
                metal = coverage(wheel.body)
                defects.temper(surface, rng, metal, on_rim, between(15, 34), between(0.4, 0.9))


class _Wheel:
    TEETH, HOLES = 26, 5
    TIP, ROOT, RIM, WEB, HUB, BORE = 186.0, 163.0, 140.0, 97.0, 58.0, 27.0  # radii

    def __init__(self, centre: Point, angle: float, defect: Defect | None) -> None:
        self.centre, self.angle = centre, angle
        length = np.ones(self.TEETH, np.float32)
        if defect is not None and defect.kind == "chipped_tooth":
            length[int(defect.rng.integers(self.TEETH))] -= defect.between(0.3, 1.0)
        self.body = self._outline(length)

    def _outline(self, length: Field) -> Field:
        """Distance to the gear seen from above; `length` is that of every tooth."""
        x, y = framed(self.centre, self.angle)
        radius, bearing = np.hypot(x, y), np.arctan2(y, x)
        aside, tooth = _around(bearing, self.TEETH)
        tip = self.ROOT + (self.TIP - self.ROOT) * length[tooth]
        flank = np.abs(aside) * radius - (8.0 + (self.TIP - radius) * np.float32(0.28))
        body = np.minimum(radius - self.ROOT, np.maximum(radius - tip, flank))
        bore = np.minimum(radius - self.BORE, rounded_box(x - self.BORE, y, 9, 7, 1))
        aside, _ = _around(bearing, self.HOLES)
        hole = disc(radius * np.cos(aside) - self.WEB, radius * np.sin(aside), 24)
        return np.maximum(body, -np.minimum(bore, hole))

    def machine(self, surface: Surface, rng: Rng, lamp: float) -> None:
        """Put the metal down: rim and hub raised, turned in fine rings, bevelled at every edge."""
        x, y = framed(self.centre, 0)
        radius, bearing = np.hypot(x, y), np.arctan2(y, x)
        alpha = coverage(self.body)
        recessed = smoothstep((self.RIM - radius) / 5) * smoothstep((radius - self.HUB) / 5)
        profile = wavering(rng, 1, 1200, 0.8)[0] + 0.7 * wavering(rng, 1, 1200, 5)[0]
        rings = profile[(radius * 3).astype(np.intp)] * (1 - 0.6 * recessed)
        # A turned face mirrors the lamp as a bow tie that stays put when the part is rotated.
        bow = np.cos(2 * (bearing - np.float32(lamp))) * (1 - 0.7 * recessed)
        tone = 1 + 0.045 * rings + 0.24 * bow - 0.22 * recessed
        tone += 0.03 * clouds(rng, 50, 2) + 0.025 * grain(rng)
        surface.height *= 1 - alpha
        surface.height += alpha * (3.0 * smoothstep(-self.body / 4) - 4.0 * recessed + 0.08 * rings)
        surface.paint(alpha, tinted((0.36, 0.35, 0.335), tone), 0.35)

    def place(self, radius: float, bearing: float) -> Point:
        """Position in the image of a point in polar coordinates."""
        x, y = self.centre
        return x + radius * float(np.cos(bearing)), y + radius * float(np.sin(bearing))

    def hole(self, number: int) -> float:
        """Bearing of a hole in the web."""
        return self.angle + 2 * np.pi * number / self.HOLES


def _around(bearing: Field, count: int) -> tuple[Field, NDArray[np.intp]]:
    """Angle to the nearest of `count` spokes in radians, and which one that is."""
    turn = bearing * np.float32(count / (2 * np.pi))
    nearest = np.rint(turn)
    return (turn - nearest) * np.float32(2 * np.pi / count), nearest.astype(np.intp) % count
