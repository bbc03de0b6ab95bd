"""Woven cloth, a texture that fills the image."""

import numpy as np

from anomaly_lib.datasets.sample import defects
from anomaly_lib.datasets.sample.defects import Defect
from anomaly_lib.datasets.sample.noise import SIZE, Field, Rng, clouds, grain, wander, wavering
from anomaly_lib.datasets.sample.shapes import coverage, framed, smoothstep
from anomaly_lib.datasets.sample.surface import Colour, Light, Surface, tinted, uniform


class Cloth:
    """A 2/2 twill of light warp and dark weft threads."""

    kinds = ("hole", "broken_yarn", "stain", "thread")
    light = Light(azimuth=-2.2, elevation=0.8, ambient=0.45, shininess=12)

    PITCH = 11.0  # pixels from thread to thread
    WARP, WEFT = (0.36, 0.38, 0.40), (0.13, 0.17, 0.25)

    def surface(self, rng: Rng, pose: float, defect: Defect | None) -> Surface:
        """Weave one piece of cloth, with the defect if there is one."""
        weave = _Weave(rng, self.PITCH, angle=0.05 * (pose - 0.5))
        if defect is not None:
            weave.damage(defect)
        surface = weave.surface(self.WARP, self.WEFT)
        if defect is not None:
            self._soil(surface, defect)
        return surface

    @staticmethod
    def _soil(surface: Surface, defect: Defect) -> None:
        rng, between = defect.rng, defect.between
        match defect.kind:
            case "stain":
                radius = between(11, 32)
                spot = defect.spot(1.6 * radius)
                defects.stain(surface, rng, spot, radius, between(0.12, 0.75), (0.45, 0.36, 0.22))
            case "thread":
                length = between(60, 130)
                path = wander(rng, defect.spot(length / 2), length, defect.heading(), bend=0.9)
                defects.fibre(surface, path, between(2.0, 3.4), (0.75, 0.68, 0.52))


class _Threads:
    """One system of parallel threads; positions run `across` the threads and `along` them, in pitches."""

    def __init__(self, rng: Rng, across: Field, along: Field, pitch: float) -> None:
        rows = int(SIZE / pitch) + 16
        self.number, self.along = np.floor(across), along
        self.offset = across - self.number - np.float32(0.5)
        self.index = self.number.astype(np.int32) % rows
        spot = self.index * (4 * rows) + (along * 4).astype(np.int32) % (4 * rows)
        self.width = (0.50 + 0.025 * wavering(rng, rows, 4 * rows, 5)).take(spot)
        shade = (1 + 0.07 * rng.uniform(-1, 1, (rows, 1))) * (1 + 0.05 * wavering(rng, rows, 4 * rows, 6))
        self.brightness = shade.astype(np.float32).take(spot)
        self.fray = rng.uniform(-1, 1, rows).astype(np.float32)[self.index]
        self.missing = np.zeros((SIZE, SIZE), np.float32)

    def height(self, wave: Field) -> Field:
        """Round threads that rise and sink with the weave; missing ones leave the ground."""
        dome = np.sqrt(np.clip(1 - (self.offset / self.width) ** 2, 0, 1))
        raised = np.float32(1.9) * dome + np.float32(1.1) * wave
        return raised - self.missing * (raised + 6)

    def twist(self) -> Field:
        """Plies of the yarn as diagonal lines in brightness."""
        return self.brightness * (1 + 0.13 * np.sin(2 * np.pi * (1.0 * self.offset + 2.3 * self.along)))


class _Weave:
    def __init__(self, rng: Rng, pitch: float, angle: float) -> None:
        self.rng = rng
        self.pitch = pitch * uniform(rng, 0.99, 1.01)
        centre = SIZE / 2 + uniform(rng, -20, 20), SIZE / 2 + uniform(rng, -20, 20)
        x, y = framed(centre, angle)
        # Cloth is never quite taut: the threads wander by a pixel or two.
        u = (x + 1.5 * clouds(rng, 150)) / np.float32(self.pitch) + 32
        v = (y + 1.5 * clouds(rng, 150)) / np.float32(self.pitch) + 32
        self.warp, self.weft = _Threads(rng, u, v, self.pitch), _Threads(rng, v, u, self.pitch)

    def damage(self, defect: Defect) -> None:
        """Do to the threads what the defect does, if it does it to threads."""
        match defect.kind:
            case "hole":
                self._tear(defect)
            case "broken_yarn":
                self._drop_yarn(defect)

    def _tear(self, defect: Defect) -> None:
        """Tear a hole whose edge is frayed thread by thread."""
        radius = defect.between(6, 18)
        distance = defects.blob(defect.rng, defect.spot(radius + 14), radius)
        for threads in (self.warp, self.weft):
            threads.missing = coverage(distance + 0.4 * np.float32(radius) * threads.fray, softness=2)

    def _drop_yarn(self, defect: Defect) -> None:
        """Let a piece of one weft thread sink into the cloth, or take it out altogether."""
        half = defect.between(9, 60)
        x, y = defect.spot(half)
        index = self.weft.index[int(y), int(x)]
        centre = self.weft.along[int(y), int(x)]
        outside = (np.abs(self.weft.along - centre) * np.float32(self.pitch)) - np.float32(half)
        gone = defect.between(0.1, 1.0) * coverage(outside, softness=4)
        self.weft.missing = gone * (self.weft.index == index)

    def surface(self, warp_colour: Colour, weft_colour: Colour) -> Surface:
        """Let at every pixel the higher of the two threads be seen."""
        warp = self.warp.height(np.sin(np.float32(np.pi / 2) * (self.warp.along + self.warp.number)))
        weft = self.weft.height(-np.sin(np.float32(np.pi / 2) * (self.weft.along + self.weft.number)))
        over = coverage(weft - warp, softness=0.8)
        top = np.maximum(warp, weft)
        fuzz = 1 + 0.06 * grain(self.rng) + 0.02 * clouds(self.rng, 120)
        # Light hardly reaches the gaps between the threads.
        fuzz *= 0.25 + 0.85 * smoothstep((top + 0.4) / np.float32(2.9))
        present = smoothstep((top + 5) / 3)
        surface = Surface.plain((0.008, 0.007, 0.007), 0.02)
        surface.colour += tinted(warp_colour, fuzz * present * over * self.warp.twist())
        surface.colour += tinted(weft_colour, fuzz * present * (1 - over) * self.weft.twist())
        surface.height = top * np.float32(0.75)
        return surface
