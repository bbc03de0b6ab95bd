"""A connector, the object that always lies the same way."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anomaly_lib.datasets.sample import defects
from anomaly_lib.datasets.sample.belt import mat
from anomaly_lib.datasets.sample.defects import Defect, Point
from anomaly_lib.datasets.sample.noise import SIZE, Field, Rng, clouds, grain, jagged, wander
from anomaly_lib.datasets.sample.shapes import coverage, disc, framed, moved, rounded_box, smoothstep
from anomaly_lib.datasets.sample.surface import Light, Surface, tinted, uniform


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
        # On a long wall of the housing, away from print and notch.
        x, y = ((-30, -95), (-113, 95), (113, 95))[rng.integers(3)]
        wall = centre[0] + x + uniform(rng, -32, 32), centre[1] + y + uniform(rng, -2, 2)
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
