"""Random changes to images of good parts that leave them good, as Gaussian-AD augments its training images.

Half of the images stay as they are. The others may be blurred, sharpened, brightened, tinted, and a little
shifted, scaled and turned; `AUGMENTATIONS` are the changes that not every kind of part allows. The authors
draw from the albumentations library; here are the same kinds with the same probabilities and limits, less its
adaptive histogram equalisation, which torch does not have.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as tv

from anomaly_lib.errors import ParameterError

Change = Callable[[torch.Tensor], torch.Tensor]
"""From images (n, 3, h, w) to changed ones."""

AUGMENTATIONS = ("flip", "rotate90", "rotate45", "background_edge", "noise")
"""Mirroring; quarter turns; turns by up to 45 degrees instead of 15; shifts and turns that bring the border
into the picture at all; noise."""


def require_augmentations(kinds: Sequence[str]) -> None:
    """Raise `ParameterError` when not all the kinds are of `AUGMENTATIONS`."""
    if unknown := [kind for kind in kinds if kind not in AUGMENTATIONS]:
        raise ParameterError(f"unknown augmentation {unknown[0]!r}: use some of {', '.join(AUGMENTATIONS)}")


def augmentation_of(kinds: Sequence[str], generator: torch.Generator) -> Change:
    """Return `augmented` with these `kinds` and this generator, as a function of the images alone."""
    return lambda images: augmented(images, kinds, generator)


def augmented(images: torch.Tensor, kinds: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    """Return the images (n, 3, h, w) in [0, 1], half of them changed at random within `kinds`.

    Examples
    --------
    >>> good = torch.rand(4, 3, 32, 32)
    >>> augmented(good, ["flip", "noise"], torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3, 32, 32])
    """
    draw = _Draw(generator)
    changed = [_changed(image, kinds, draw) if draw.chance(0.5) else image for image in images]
    return torch.stack(changed).clamp_(0, 1) if changed else images


class _Draw:
    """Random numbers of one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def chance(self, probability: float) -> bool:
        return self.between(0, 1) < probability

    def one_of(self, number: int) -> int:
        return int(torch.randint(number, (), generator=self.generator))

    def noise(self, shape: Sequence[int]) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)


def _changed(image: torch.Tensor, kinds: Sequence[str], draw: _Draw) -> torch.Tensor:
    if draw.chance(0.2):
        image = _blurred(image, draw)
    if draw.chance(0.3):
        effects: tuple[Callable[[torch.Tensor, _Draw], torch.Tensor], ...] = (_sharpened, _embossed, _lit)
        image = effects[draw.one_of(3)](image, draw)
    if draw.chance(0.3):
        image = _tinted(image, draw)
    if "noise" in kinds and draw.chance(0.2):
        shape = (3 if draw.chance(0.5) else 1, *image.shape[1:])
        image = image + draw.between(0.01, 0.03) * draw.noise(shape).to(image)
    if "flip" in kinds and draw.chance(0.5):
        image = image.flip(2)
    if "rotate90" in kinds and draw.chance(0.5):
        image = image.rot90(draw.one_of(4), (1, 2)) if image.shape[1] == image.shape[2] else image
    return _moved(image, kinds, draw) if draw.chance(0.2) else image


def _blurred(image: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Blur by motion along a line of 3 to 7 pixels, or by the median or the mean of 3 x 3 pixels."""
    kind = draw.one_of(4)
    if kind == 0:
        padded = F.pad(image[None], (1, 1, 1, 1), mode="reflect")
        windows = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)  # (1, 3, h, w, 9)
        return windows.median(dim=4).values[0]
    if kind == 1:
        return _filtered(image, torch.full((3, 3), 1 / 9))
    length = 3 + 2 * draw.one_of(3)
    angle = draw.between(0, math.pi)
    steps = torch.linspace(-(length // 2), length // 2, 4 * length)
    line = torch.zeros(length, length)
    y, x = (length // 2 + (steps * turn(angle)).round().long() for turn in (math.sin, math.cos))
    line[y, x] = 1
    return _filtered(image, line / line.sum())


def _sharpened(image: torch.Tensor, draw: _Draw) -> torch.Tensor:
    sharp = torch.tensor([[-1.0, -1, -1], [-1, 8 + draw.between(0.5, 1), -1], [-1, -1, -1]])
    return torch.lerp(image, _filtered(image, sharp).clamp(0, 1), draw.between(0.2, 0.5))


def _embossed(image: torch.Tensor, draw: _Draw) -> torch.Tensor:
    strength = draw.between(0.2, 0.7)
    relief = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, 1]]) + strength * torch.tensor(
        [[0.0, -1, 0], [-1, 0, 1], [0, 1, 0]]
    )
    return torch.lerp(image, _filtered(image, relief).clamp(0, 1), draw.between(0.2, 0.5))


def _lit(image: torch.Tensor, draw: _Draw) -> torch.Tensor:
    return image * (1 + draw.between(-0.2, 0.2)) + draw.between(-0.1, 0.2)


def _tinted(image: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Shift the hue by up to 20 degrees, the saturation by up to an eighth, the value by -4 % to 8 %."""
    turned: torch.Tensor = tv.adjust_hue(image.clamp(0, 1), draw.between(-20, 20) / 360)
    tinted: torch.Tensor = tv.adjust_saturation(turned, 1 + draw.between(-30, 30) / 255)
    return tinted + draw.between(-10, 20) / 255


def _moved(image: torch.Tensor, kinds: Sequence[str], draw: _Draw) -> torch.Tensor:
    """Shift by up to 5 % of the side, scale by -5 % to 10 % and turn; the border is mirrored."""
    border = "background_edge" in kinds
    limit = (45.0 if "rotate45" in kinds else 15.0) if border else 0.0
    angle = math.radians(draw.between(-limit, limit))
    scale = 1 + draw.between(-0.05, 0.1 if border else 0.0)
    across, down = (2 * draw.between(-0.05, 0.05) if border else 0.0 for _ in range(2))
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    turn = torch.tensor([[[cos, -sin, across], [sin, cos, down]]], dtype=image.dtype, device=image.device)
    grid = F.affine_grid(turn, [1, *image.shape], align_corners=False)
    moved = F.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)
    return moved[0]


def _filtered(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Return the image (3, h, w) correlated with a square kernel of odd side."""
    side = len(kernel) // 2
    padded = F.pad(image[None], (side, side, side, side), mode="reflect")
    weight = kernel.to(image)[None, None].expand(3, 1, *kernel.shape)
    return F.conv2d(padded, weight, groups=3)[0]
