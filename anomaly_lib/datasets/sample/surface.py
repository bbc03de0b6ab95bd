"""From a surface to a photograph: what lies under the lens, the lamp and the camera."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anomaly_lib.datasets.sample.noise import SIZE, Field, Rng
from anomaly_lib.datasets.sample.shapes import pixel_grid

Colour = tuple[float, float, float]  # linear red, green, blue


def uniform(rng: Rng, low: float, high: float) -> float:
    """Draw one number; bounded, so that no normal image is an outlier."""
    return float(rng.uniform(low, high))


def tinted(colour: Colour, tone: Field) -> Field:
    """Return a colour (h, w, 3) that is `tone` (h, w) times as bright."""
    return tone[..., None] * np.array(colour, np.float32)


@dataclass
class Surface:
    """What the camera looks down on.

    `colour` (h, w, 3) is the linear reflectance, `height` (h, w) is in pixels, `gloss` (h, w) the strength
    of the highlight. The methods change the surface in place.
    """

    colour: Field
    height: Field
    gloss: Field

    @classmethod
    def plain(cls, colour: Colour, gloss: float) -> "Surface":
        """Return a flat surface of one colour."""
        return cls(
            tinted(colour, np.ones((SIZE, SIZE), np.float32)),
            np.zeros((SIZE, SIZE), np.float32),
            np.full((SIZE, SIZE), gloss, np.float32),
        )

    def paint(self, alpha: Field, colour: Colour | Field, gloss: Field | float | None = None) -> None:
        """Cover the surface by the share `alpha` (h, w) with a colour and, if given, another gloss."""
        window = bounding_box(alpha)
        alpha, colour = alpha[window], np.asarray(colour, np.float32)
        paint = colour[window] if colour.ndim == 3 else colour
        self.colour[window] += alpha[..., None] * (paint - self.colour[window])
        if gloss is not None:
            shine = gloss[window] if isinstance(gloss, np.ndarray) else np.float32(gloss)
            self.gloss[window] += alpha * (shine - self.gloss[window])

    def tint(self, alpha: Field, gains: Colour) -> None:
        """Multiply the colour by `gains`, in full where `alpha` (h, w) is 1."""
        window = bounding_box(alpha)
        self.colour[window] *= 1 + tinted(gains, alpha[window]) - alpha[window][..., None]

    def multiply(self, factor: Field) -> None:
        """Scale the reflected light, diffuse and highlight, by `factor` (h, w)."""
        self.colour *= factor[..., None]
        self.gloss *= factor

    def shadow(self, share: Field) -> None:
        """Take away the given share (h, w) of the light."""
        window = bounding_box(share)
        self.part(window).multiply(1 - share[window])

    def part(self, window: tuple[slice, slice]) -> "Surface":
        """Return a window of the surface; what changes it changes the whole."""
        return Surface(self.colour[window], self.height[window], self.gloss[window])


def bounding_box(alpha: Field) -> tuple[slice, slice]:
    """Rows and columns where there is anything; most paint covers a small part of the picture."""
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@dataclass(frozen=True)
class Light:
    """A lamp at the side of the line; angles in radians."""

    azimuth: float
    elevation: float
    ambient: float = 0.35
    shininess: float = 30.0

    def jittered(self, rng: Rng, azimuth: float = 0.08, elevation: float = 0.03) -> "Light":
        """Move the lamp a little, as it differs from photograph to photograph."""
        return replace(
            self,
            azimuth=self.azimuth + uniform(rng, -azimuth, azimuth),
            elevation=self.elevation + uniform(rng, -elevation, elevation),
        )

    def shade(self, surface: Surface) -> Field:
        """Return the light (h, w, 3) that the surface sends straight up: Lambert plus Blinn-Phong."""
        down, right = np.gradient(surface.height)
        steepness = 1 / np.sqrt(1 + right * right + down * down)
        direction = self._direction()
        lit = self._facing(direction, right, down, steepness)
        half = direction + np.array([0, 0, 1], np.float32)
        aligned = self._facing(half / np.linalg.norm(half), right, down, steepness)
        highlight = surface.gloss * np.exp(self.shininess * (aligned - 1))
        diffuse = self.ambient + (1 - self.ambient) * lit / direction[2]
        # Part of the highlight takes the colour of the surface, as it does on metals.
        light: Field = surface.colour * (diffuse + highlight)[..., None]
        return light + np.float32(0.3) * highlight[..., None]

    def _direction(self) -> Field:
        flat = np.cos(self.elevation)
        return np.array(
            [flat * np.cos(self.azimuth), flat * np.sin(self.azimuth), np.sin(self.elevation)], np.float32
        )

    @staticmethod
    def _facing(direction: Field, right: Field, down: Field, steepness: Field) -> Field:
        """Cosine between the surface normal and a direction."""
        cosine: Field = (direction[2] - direction[0] * right - direction[1] * down) * steepness
        return np.maximum(cosine, 0)


@dataclass(frozen=True)
class Camera:
    """Exposure, colour balance, fall-off, focus and noise of one photograph."""

    gains: Colour
    tilt: tuple[float, float]
    vignette: float
    blur: float
    noise: float

    @classmethod
    def draw(cls, rng: Rng, exposure: float = 0.05, noise: float = 0.006) -> "Camera":
        """Draw the camera of one photograph; `exposure` is the largest relative deviation."""
        level = 1 + uniform(rng, -exposure, exposure)
        warmth = uniform(rng, -0.025, 0.025)
        return cls(
            gains=(level * (1 + warmth), level, level * (1 - warmth)),
            tilt=(uniform(rng, -0.07, 0.07), uniform(rng, -0.07, 0.07)),
            vignette=uniform(rng, 0.14, 0.2),
            blur=uniform(rng, 0.65, 0.85),
            noise=noise,
        )

    def develop(self, light: Field) -> Field:
        """Turn light (h, w, 3) into grey values between 0 and 1, still without noise."""
        x, y = pixel_grid()
        x, y = x / np.float32(SIZE / 2) - 1, y / np.float32(SIZE / 2) - 1
        falloff = 1 + np.float32(self.tilt[0]) * x + np.float32(self.tilt[1]) * y
        falloff -= np.float32(self.vignette / 2) * (x * x + y * y)
        exposed = light * tinted(self.gains, falloff)
        focused = _defocus(_defocus(exposed, self.blur, axis=0), self.blur, axis=1)
        # A shoulder instead of hard clipping, then the square root as the gamma of the display.
        return np.sqrt(np.clip(focused * 3.5 / (focused + 2.5), 0, 1))

    def expose(self, picture: Field, noise: Field) -> NDArray[np.uint8]:
        """Add the noise (h, w, 3) of the sensor, given with unit variance, and round to 8 bits."""
        return np.clip(np.rint(255 * (picture + np.float32(self.noise) * noise)), 0, 255).astype(np.uint8)


def _defocus(picture: Field, sigma: float, axis: int) -> Field:
    """Blur slightly along one axis: three taps with the variance of a Gaussian, several times as fast."""
    picture = picture.swapaxes(0, axis)
    blurred = picture.copy()
    blurred[1:-1] += np.float32(sigma**2 / 2) * (picture[2:] - 2 * picture[1:-1] + picture[:-2])
    return blurred.swapaxes(0, axis)
