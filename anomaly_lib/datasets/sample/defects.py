"""Defects that can befall any surface. Sizes in pixels; each function changes the surface in place.

What can only happen to one kind of part, such as a missing pin, is written where the part is made.
"""

from dataclasses import dataclass

import numpy as np

from anomaly_lib.datasets.sample.noise import Field, Rng, clouds
from anomaly_lib.datasets.sample.shapes import coverage, framed, pixel_grid, polyline, smoothstep
from anomaly_lib.datasets.sample.surface import Colour, Surface, tinted

Point = tuple[float, float]

VISIBLE = (32.0, 480.0)  # what remains of 512 pixels after resizing to 256 and cropping 224


@dataclass(frozen=True)
class Defect:
    """What is wrong: `severity` runs from 0 (barely to be found) to 1 (plain to see)."""

    kind: str
    severity: float
    rng: Rng

    def between(self, faint: float, strong: float) -> float:
        """Interpolate a property of the defect by its severity."""
        return faint + self.severity * (strong - faint)

    def spot(self, reach: float) -> Point:
        """Draw a place such that a defect of that reach stays in the visible part of the image."""
        low, high = VISIBLE[0] + reach + 6, VISIBLE[1] - reach - 6
        return float(self.rng.uniform(low, high)), float(self.rng.uniform(low, high))

    def heading(self) -> float:
        """Draw a direction in radians."""
        return float(self.rng.uniform(0, np.pi))


def blob(rng: Rng, centre: Point, radius: float, ragged: float = 0.25) -> Field:
    """Distance to an irregular round patch; `ragged` is the deviation of its outline in radii."""
    x, y = framed(centre, rng.uniform(0, np.pi))
    outline = np.clip(clouds(rng, max(8.0, radius), octaves=3), -2, 2)
    round_ = np.hypot(x * np.float32(0.9), y * np.float32(1.1))
    return round_ - np.float32(radius) * (1 + ragged * 0.5 * outline)


def scratch(surface: Surface, path: Field, width: float, strength: float, bare: Colour) -> None:
    """Bare the material in a bright groove with a darker, raised lip; it thins out towards its ends."""
    distance, along = polyline(path, reach=4 * width + 2)
    taper = np.sqrt(np.clip(4 * along * (1 - along), 0, 1))
    half = np.float32(width / 2) * (0.4 + 0.6 * taper)
    groove = coverage(distance - half, softness=1.2) * taper
    lip = coverage(np.abs(distance - half - 1.2) - 0.8, softness=1.2) * taper
    surface.height += np.float32(strength) * (0.6 * lip - 1.2 * groove)
    surface.shadow(np.float32(0.35 * strength) * lip)
    surface.paint(np.float32(strength) * groove, bare)


def crack(surface: Surface, path: Field, width: float, strength: float, edge: Colour) -> None:
    """Open a dark jagged gap, widest in the middle; the material along it is strained to colour `edge`."""
    distance, along = polyline(path, reach=3 * width + 4)
    half = np.float32(width / 2) * np.sqrt(np.clip(4 * along * (1 - along), 0.05, 1))
    gap = coverage(distance - half, softness=1.2)
    surface.paint(np.float32(0.6 * strength) * coverage(distance - half - 1.0, softness=1.6), edge)
    surface.height -= np.float32(1.5 * strength) * coverage(distance - half, softness=3.0)
    surface.shadow(np.float32(strength) * gap)


def stain(surface: Surface, rng: Rng, centre: Point, radius: float, strength: float, colour: Colour) -> None:
    """Let a liquid dry: a tinted patch with a soft outline and a slightly darker rim."""
    distance = blob(rng, centre, radius, ragged=0.35)
    soak = coverage(distance, softness=0.35 * radius + 2) * np.clip(0.8 + 0.15 * clouds(rng, 12, 2), 0.3, 1)
    rim = np.exp(-((distance + 0.1 * radius) ** 2) / np.float32(2 * (0.06 * radius + 1) ** 2))
    alpha = np.float32(strength) * np.clip(soak + 0.25 * rim, 0, 1) * coverage(distance - 6, softness=6)
    surface.tint(alpha, colour)
    surface.gloss *= 1 - 0.6 * alpha


def dent(surface: Surface, centre: Point, radius: float, depth: float, stretch: float, angle: float) -> None:
    """Press a smooth hollow into the surface; only the shading shows it."""
    x, y = framed(centre, angle)
    inside = np.clip(1 - (x / (radius * stretch)) ** 2 - (y / radius) ** 2, 0, 1)
    surface.height -= np.float32(depth) * inside * inside


def pits(surface: Surface, rng: Rng, centre: Point, radius: float, strength: float) -> None:
    """Eat a cluster of four small dark holes into the surface."""
    x, y = pixel_grid()
    for offset in rng.normal(0, 1.6 * radius, (4, 2)).clip(-3 * radius, 3 * radius).astype(np.float32):
        size = radius * rng.uniform(0.6, 1.0)
        away = np.hypot(x - (centre[0] + offset[0]), y - (centre[1] + offset[1]))
        hole = smoothstep(1.4 - away / np.float32(size))
        surface.height -= np.float32(1.2 * strength) * hole
        surface.shadow(np.float32(0.8 * strength) * hole)


def fibre(surface: Surface, path: Field, width: float, colour: Colour) -> None:
    """Lay a loose thread on top; it is round and casts a small shadow."""
    shade, _ = polyline(path + width * np.array([0.6, 0.8], np.float32), reach=width + 4)
    surface.shadow(0.45 * coverage(shade - width / 2, softness=width))
    distance, along = polyline(path, reach=width + 3)
    thread = coverage(distance - width / 2, softness=1.2)
    round_ = np.sqrt(np.clip(1 - (2 * distance / np.float32(width)) ** 2, 0, 1))
    twist = 1 + 0.15 * np.sin(np.float32(len(path) * 3) * along + 2 * distance)
    surface.height += np.float32(0.35 * width) * round_
    surface.paint(thread, tinted(colour, twist), 0.05)


def temper(surface: Surface, rng: Rng, where: Field, centre: Point, radius: float, strength: float) -> None:
    """Overheat the metal: straw-coloured, and blue in the middle; `where` (h, w) is 1 on the metal."""
    heat = -blob(rng, centre, radius, ragged=0.2) / np.float32(radius)
    for threshold, gains in ((0.0, (1.0, 0.87, 0.62)), (0.55, (0.62, 0.76, 1.5))):
        alpha = np.float32(strength) * where * smoothstep((heat - threshold) / np.float32(0.7) + 0.5)
        surface.tint(alpha, gains)
