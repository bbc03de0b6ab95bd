"""Random fields and random curves, the raw material of every texture and defect."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Field = NDArray[Any]  # float32, (h, w) or (h, w, channels)
Rng = np.random.Generator

SIZE = 512  # side of every generated image in pixels


# Normal deviates by table from random bytes: several times as fast as drawing them one by one.
_DEVIATES = np.array([NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)], np.float32)


def grain(rng: Rng, channels: int | None = None) -> Field:
    """White noise of unit variance, (h, w) or (h, w, channels)."""
    shape = (SIZE, SIZE) if channels is None else (SIZE, SIZE, channels)
    deviates: Field = _DEVIATES[rng.integers(0, 256, shape, np.uint8)]
    return deviates


def clouds(rng: Rng, cell: float, octaves: int = 1) -> Field:
    """Smooth noise whose blobs are about `cell` pixels wide; every further octave halves the cell."""
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(octaves):
        nodes = int(SIZE / cell * 2**octave) + 4
        lattice = Image.fromarray(rng.standard_normal((nodes, nodes), dtype=np.float32))
        # A box inside the lattice keeps the flat extrapolation at its border out of the picture.
        inner = (1.0, 1.0, nodes - 2.0, nodes - 2.0)
        total += 0.5**octave * np.asarray(lattice.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=inner))
    return total


def streaks(rng: Rng, layers: Sequence[tuple[float, float, float]], angle: float) -> Field:
    """Sum of elongated noises, as brushing leaves them; periodic.

    Each of the `layers` is white noise blurred by an elongated Gaussian: standard deviation of the result,
    then of the blur along and across the brushing direction `angle` (radians), in pixels.
    """
    fy = np.fft.fftfreq(SIZE).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(SIZE).astype(np.float32)[None, :]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    lengthwise, crosswise = (fx * cos + fy * sin) ** 2, (fy * cos - fx * sin) ** 2
    power = np.zeros((SIZE, SIZE // 2 + 1), np.float32)
    for strength, along, across in layers:
        # A Gaussian blur leaves white noise with a variance of 1 / (4 pi along across).
        gain = strength**2 * 4 * np.pi * along * across
        power += gain * np.exp(-4 * np.pi**2 * (along**2 * lengthwise + across**2 * crosswise))
    # Independent noises add their powers, so that one transform makes them all.
    field: Field = np.fft.irfft2(np.fft.rfft2(grain(rng)) * np.sqrt(power), s=(SIZE, SIZE))
    return field


def wavering(rng: Rng, rows: int, length: int, sigma: float) -> Field:
    """`rows` independent smooth random lines of unit variance, for what varies along a thread."""
    lines = ndimage.gaussian_filter1d(rng.standard_normal((rows, length)), sigma, axis=1, mode="wrap")
    normalised: Field = (lines / lines.std()).astype(np.float32)
    return normalised


def wander(rng: Rng, centre: tuple[float, float], length: float, heading: float, bend: float) -> Field:
    """Points (n, 2) as x, y of a smooth curve through `centre`; `bend` is its wiggle in radians."""
    steps = max(8, int(length / 4))
    turns = ndimage.gaussian_filter1d(rng.standard_normal(steps), steps / 8, mode="nearest")
    turns = bend * (turns - turns.mean()) / (turns.std() + 1e-9)
    return _walk(centre, length, heading + turns)


def jagged(rng: Rng, centre: tuple[float, float], length: float, heading: float) -> Field:
    """Points (n, 2) as x, y of a broken line through `centre`, as a crack runs."""
    steps = max(5, int(length / 6))
    return _walk(centre, length, heading + rng.uniform(-0.75, 0.75, steps))


def _walk(centre: tuple[float, float], length: float, headings: NDArray[np.float64]) -> Field:
    stride = length / len(headings)
    steps = stride * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    points: Field = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    box_centre = (points.min(axis=0) + points.max(axis=0)) / 2
    points += np.asarray(centre) - box_centre
    return points.astype(np.float32)
