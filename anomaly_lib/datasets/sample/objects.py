"""The two objects: a connector that always lies the same way and a gear that lies as it fell."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from anomaly_lib.datasets.sample import defects
from anomaly_lib.datasets.sample.defects import Defect, Point
from anomaly_lib.datasets.sample.noise import SIZE, Field, Rng, clouds, grain, jagged, wander, wavering
from anomaly_lib.datasets.sample.shapes import (
    coverage,
    disc,
    framed,
    moved,
    rounded_box,
    smoothstep,
)
from anomaly_lib.datasets.sample.surface import Colour, Light, Surface, tinted, uniform


def mat(rng: Rng, colour: Colour, mesh: float, relief: float) -> Surface:
    """Lay out the rubber belt under the part: a fine mesh of the given pitch that moves along."""
    surface = Surface.plain(colour, 0.02)
    x, y = framed((uniform(rng, 0, mesh), uniform(rng, 0, mesh)), np.pi / 4 + uniform(rng, -0.01, 0.01))
    waves = np.sin(x * np.float32(2 * np.pi / mesh)) * np.sin(y * np.float32(2 * np.pi / mesh))
    surface.height = np.float32(relief) * (waves + 0.25 * grain(rng))
    surface.multiply(1 + 0.025 * clouds(rng, 90, 2) + 0.04 * grain(rng) + 0.06 * waves)
    return surface


class Connector:
    """A black plastic housing with two rows of pins, always in the same pose."""

    kinds = ("missing_pin", "bent_pin", "crack", "scratch", "fibre", "tarnish")
    light = Light(azimuth=-2.2, elevation=0.95, ambient=0.4, shininess=22)

    BAND = np.s_[180:332, 80:432]  # where the pins are

    def surface(self, rng: Rng, pose: float, defect: Defect | None) -> Surface:
        """Lay one connector on the belt, with the defect if there is one."""
        surface = mat(rng, (0.36, 0.37, 0.36), mesh=7, relief=0.35)
        centre = SIZE / 2 + uniform(rng, -3, 3), SIZE / 2 + uniform(rng, -3, 3)
        housing = _Housing(rng, centre, angle=0.016 * (pose - 0.5))
        housing.mould(surface)
        housing.print_marks(surface)
        pins = _Pins(rng, housing.x[self.BAND], housing.y[self.BAND])
        if defect is not None:
            pins.disturb(defect)
        pins.insert(surface.part(self.BAND))
        if defect is not None:
            self._damage(surface, defect, centre)
        return surface

    @staticmethod
    def _damage(surface: Surface, defect: Defect, centre: Point) -> None:
        rng, between = defect.rng, defect.between
        side = 1 if rng.random() < 0.5 else -1
        # On one of the two long walls of the housing.
        wall = centre[0] + uniform(rng, -120, 120), centre[1] + side * uniform(rng, 93, 97)
        match defect.kind:
            case "crack":
                path = jagged(rng, wall, between(34, 42), np.pi / 2 + uniform(rng, -0.5, 0.5))
                defects.crack(surface, path, between(2.0, 3.0), 0.9, edge=(0.24, 0.24, 0.24))
            case "scratch":
                path = wander(rng, wall, between(40, 80), uniform(rng, -0.4, 0.4), bend=0.15)
                defects.scratch(surface, path, between(1.6, 2.4), between(0.6, 1.0), (0.26, 0.26, 0.26))
            case "fibre":
                spot = centre[0] + uniform(rng, -100, 100), centre[1] + uniform(rng, -70, 70)
                path = wander(rng, spot, between(60, 130), defect.heading(), bend=0.9)
                defects.fibre(surface, path, between(1.7, 2.8), (0.55, 0.42, 0.32))


class _Housing:
    SHELL, CAVITY = (205.0, 118.0, 16.0), (150.0, 76.0, 10.0)  # half width, half height, corner
    EAR = 178.0  # where the two bushings sit

    def __init__(self, rng: Rng, centre: Point, angle: float) -> None:
        self.rng, self.centre, self.angle = rng, centre, angle
        self.x, self.y = framed(centre, angle)

    def mould(self, surface: Surface) -> None:
        """Set the plastic body onto the belt, with its cavity, key notch and metal bushings."""
        x, y = self.x, self.y
        shell = rounded_box(x, y, *self.SHELL)
        surface.shadow(0.62 * smoothstep(0.5 - moved(shell, 8, 10) / 22) + 0.2 * smoothstep(0.5 - shell / 10))
        self._cover(surface, shell)
        notch = rounded_box(x, y - 100, 32, 30, 4)
        cavity = np.minimum(rounded_box(x, y, *self.CAVITY), notch)
        self._sink(surface, np.maximum(cavity, shell + 3))
        self._bushing(surface, disc(np.abs(x) - self.EAR, y, 0))

    def _cover(self, surface: Surface, shell: Field) -> None:
        body = coverage(shell)
        spark = grain(self.rng)
        surface.height *= 1 - body
        surface.height += body * (0.07 * spark + 4.5 * smoothstep(-shell / 7))
        plastic = tinted((0.030, 0.031, 0.034), 1 + 0.08 * clouds(self.rng, 120))
        surface.paint(body, plastic, 0.10)

    def _sink(self, surface: Surface, cavity: Field) -> None:
        """Deepen the cavity; its walls keep the light of the lamp from the floor next to them."""
        inside = coverage(cavity)
        surface.height -= 4.0 * smoothstep(0.5 - cavity / 5)
        walls = np.maximum(moved(cavity, 11, 14), cavity)
        surface.shadow(inside * (0.45 + 0.4 * smoothstep(0.5 + walls / 16)))

    def _bushing(self, surface: Surface, radius: Field) -> None:
        ring = coverage(radius - 17)
        turned = 1 + 0.12 * np.cos(2 * np.arctan2(self.y, np.abs(self.x) - self.EAR)) + 0.03 * grain(self.rng)
        surface.paint(ring, tinted((0.42, 0.40, 0.36), turned), 0.5)
        surface.height += 2.0 * smoothstep((17 - radius) / 4) - 4.0 * smoothstep((10.5 - radius) / 3)
        surface.shadow(0.93 * coverage(radius - 9.5, softness=1.5))

    def print_marks(self, surface: Surface) -> None:
        """Print the type and a triangle at pin 1 in white."""
        # The print shifts a little against the body from part to part.
        shift = uniform(self.rng, -0.6, 0.6), uniform(self.rng, -0.6, 0.6)
        ink = Image.new("L", (SIZE, SIZE))
        draw = ImageDraw.Draw(ink)
        middle = SIZE // 2
        draw.text((middle + 60, middle - 108), "AL-18P", fill=255, font=ImageFont.load_default(size=22))
        draw.polygon(
            [(middle - 134, middle - 88), (middle - 120, middle - 88), (middle - 127, middle - 100)], 255
        )
        alpha = self._into_pose(ink, shift)
        surface.paint(alpha * (0.78 + 0.08 * clouds(self.rng, 4)), (0.62, 0.62, 0.60), 0.05)

    def _into_pose(self, ink: Image.Image, shift: Point) -> Field:
        """Move a drawing made around the middle of the image to where the housing lies."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        cx, cy, middle = self.centre[0], self.centre[1], SIZE / 2
        across = (cos, sin, middle + shift[0] - cos * cx - sin * cy)
        down = (-sin, cos, middle + shift[1] + sin * cx - cos * cy)
        turned = ink.transform((SIZE, SIZE), Image.Transform.AFFINE, across + down, Image.Resampling.BILINEAR)
        return np.asarray(turned, np.float32) / 255


class _Pins:
    """Two rows of nine pins; what differs from pin to pin is a table (row, column)."""

    ROWS, COLUMNS, PITCH, GAP = 2, 9, 31.0, 62.0

    def __init__(self, rng: Rng, x: Field, y: Field) -> None:
        column = np.clip(np.rint(x / np.float32(self.PITCH)), -4, 4)
        self.cell = np.s_[(y > 0).astype(np.intp), (column + 4).astype(np.intp)]
        self.x = x - column * np.float32(self.PITCH)
        self.y = np.abs(y) - np.float32(self.GAP / 2)
        self.y *= np.sign(y)
        shape = (self.ROWS, self.COLUMNS)
        self.present = np.ones(shape, np.float32)
        self.offset = rng.uniform(-0.5, 0.5, (2, *shape)).astype(np.float32)
        self.bend = np.zeros((2, *shape), np.float32)
        self.brightness = rng.uniform(0.92, 1.08, shape).astype(np.float32)
        self.gloss = np.full(shape, 0.8, np.float32)
        self.colour = np.empty((*shape, 3), np.float32)
        self.colour[:] = (0.66, 0.56, 0.36)

    def disturb(self, defect: Defect) -> None:
        """Remove, bend or tarnish pins."""
        rng = defect.rng
        row, column = int(rng.integers(self.ROWS)), int(rng.integers(self.COLUMNS))
        match defect.kind:
            case "missing_pin":
                self.present[row, column] = 0
            case "bent_pin":
                angle = rng.uniform(0, 2 * np.pi)
                self.bend[:, row, column] = defect.between(6, 11) * np.array([np.cos(angle), np.sin(angle)])
            case "tarnish":
                count = round(defect.between(2, 5))
                column = min(column, self.COLUMNS - count)
                dull = np.s_[row, column : column + count]
                self.colour[dull] *= 1 - defect.between(0.88, 0.96) * np.array([0.85, 0.95, 1.0])
                self.gloss[dull] = 0.1

    def insert(self, surface: Surface) -> None:
        """Cut the square holes and put the pins into them."""
        hole = rounded_box(self.x, self.y, 10.5, 10.5, 2)
        surface.height -= 1.5 * smoothstep(0.5 - hole / 3)
        surface.shadow(0.75 * coverage(hole))
        pin, lean = self._pin()
        shade = rounded_box(self.x - 5, self.y - 6, 8, 8, 3)
        surface.shadow(0.5 * self.present[self.cell] * smoothstep(0.5 - shade / 7))
        alpha = coverage(pin) * self.present[self.cell]
        surface.height += alpha * (1 + 5.0 * smoothstep(-pin / 5))
        # The ceiling lamp is mirrored in the upper half of every tip.
        mirror = 0.75 + 0.45 * smoothstep(0.5 - self.y / 6)
        tone = self.brightness[self.cell] * mirror * (1 - 0.4 * lean)
        surface.paint(alpha, self.colour[self.cell] * tone[..., None], self.gloss[self.cell])

    def _pin(self) -> tuple[Field, Field]:
        """Distance to the pins, each swept from its foot to its tip, and how far down the stem we look."""
        dx, dy = self.offset[0][self.cell], self.offset[1][self.cell]
        bx, by = self.bend[0][self.cell], self.bend[1][self.cell]
        x, y = self.x - dx, self.y - dy
        swept = np.clip((x * bx + y * by) / np.maximum(bx * bx + by * by, 1e-6), 0, 1)
        bent = (bx != 0).astype(np.float32)
        return rounded_box(x - swept * bx, y - swept * by, 6.5, 6.5, 2), bent * (1 - swept)


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
        return self.centre[0] + radius * float(np.cos(bearing)), self.centre[1] + radius * float(
            np.sin(bearing)
        )

    def hole(self, number: int) -> float:
        """Bearing of a hole in the web."""
        return self.angle + 2 * np.pi * number / self.HOLES


def _around(bearing: Field, count: int) -> tuple[Field, NDArray[np.intp]]:
    """Angle to the nearest of `count` spokes in radians, and which one that is."""
    turn = bearing * np.float32(count / (2 * np.pi))
    nearest = np.rint(turn)
    return (turn - nearest) * np.float32(2 * np.pi / count), nearest.astype(np.intp) % count
