"""Pairs of patches: cut where they should be, as the official code draws them."""

import math

import pytest
import torch

from anomaly_lib.detectors.patch_svdd.pairs import DIRECTIONS, NOISE, Pairs

HEIGHT, WIDTH = 150, 170


def coordinates() -> torch.Tensor:
    """Return images (2, 3, h, w) uint8 whose channels are number, row and column of each pixel."""
    images = torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    images[1, 0] = 1
    images[:, 1] = torch.arange(HEIGHT)[:, None]
    images[:, 2] = torch.arange(WIDTH)
    return images


def pairs(images: torch.Tensor | None = None, mean: torch.Tensor | None = None, seed: int = 0) -> Pairs:
    images = coordinates() if images is None else images
    mean = torch.zeros(3, HEIGHT, WIDTH) if mean is None else mean
    return Pairs(images, mean, torch.Generator().manual_seed(seed))


def corners(patches: torch.Tensor) -> torch.Tensor:
    """Return (row, column) (2, b, 2) of patches (2, b, 3, k, k) of `coordinates`, checked to be whole."""
    values = (patches * 255).round().long()
    side = patches.shape[-1]
    rows, columns = values[:, :, 1], values[:, :, 2]
    assert torch.equal(rows, rows[..., :1, :1] + torch.arange(side)[:, None].expand(side, side))
    assert torch.equal(columns, columns[..., :1, :1] + torch.arange(side).expand(side, side))
    return torch.stack([rows[..., 0, 0], columns[..., 0, 0]], dim=-1)


@pytest.mark.parametrize(("side", "reach"), [(64, 2), (32, 1)])
def test_svdd_pairs_are_next_to_each_other(side: int, reach: int) -> None:
    numbers = torch.arange(2000) % 2
    patches = pairs().svdd(side, numbers)
    assert patches.shape == (2, 2000, 3, side, side)
    assert torch.equal((patches[:, :, 0, 0, 0] * 255).round().long(), numbers.expand(2, 2000))
    first, second = corners(patches)
    moves = second - first
    assert moves.abs().max() == reach
    inside = ((first >= reach) & (first <= torch.tensor([HEIGHT, WIDTH]) - side - reach)).all(dim=1)
    drawn, counts = moves[inside].unique(dim=0, return_counts=True)
    assert len(drawn) == (2 * reach + 1) ** 2 - 1  # all moves but none
    assert not (drawn == 0).all(dim=1).any()
    assert counts.min() > 0.6 * counts.max()
    assert (first.amin(dim=0) == 0).all()
    assert (first.amax(dim=0) == torch.tensor([HEIGHT - side, WIDTH - side])).all()


@pytest.mark.parametrize("side", [64, 32])
def test_position_pairs_are_neighbours_in_the_direction_of_their_class(side: int) -> None:
    pixels = coordinates()
    drawer = pairs(pixels)
    # Of noise of 0.02 the values, which are 1/255 apart, would be unreadable; a still generator has none.
    noisy, position = drawer.position(side, torch.zeros(2000, dtype=torch.long))
    plain = noisy.mean(dim=(-1, -2))[:, :, 1:] * 255 - (side - 1) / 2  # corners, up to the shift of noise
    moves = plain[1] - plain[0]
    inside = ((plain[0] > side + 20) & (plain[0] < torch.tensor([HEIGHT, WIDTH]) - 2 * side - 20)).all(dim=1)
    tolerance = 6 * math.sqrt(2) * NOISE * 255
    for number, (down, right) in enumerate(DIRECTIONS):
        here = moves[(position == number) & inside]
        for axis, direction in enumerate((down, right)):
            along = here[:, axis] * direction if direction else here[:, axis]
            low, high = (0.75 * side, side - 1) if direction else (0, 0)
            assert (along > low - tolerance).all()
            assert (along < high + tolerance).all()
    assert position.bincount(minlength=8).min() > 180
    assert len(set(DIRECTIONS)) == 8
    assert (0, 0) not in DIRECTIONS


def test_position_pairs_at_the_border_are_moved_inwards() -> None:
    """With images hardly larger than a patch every second patch would reach outside."""
    images = torch.zeros(1, 3, 70, 70, dtype=torch.uint8)
    patches, _ = Pairs(images, torch.zeros(3, 70, 70), torch.Generator()).position(64, torch.zeros(50).long())
    assert patches.shape == (2, 50, 3, 64, 64)


def test_noise_is_a_shift_for_each_patch_and_channel_and_one_for_each_value() -> None:
    images = torch.full((1, 3, HEIGHT, WIDTH), 51, dtype=torch.uint8)
    patches, _ = pairs(images).position(32, torch.zeros(600).long())
    noise = patches - 0.2
    shift = noise.mean(dim=(-1, -2))  # (2, b, 3)
    assert math.isclose(float(shift.std()), NOISE, rel_tol=0.1)
    assert math.isclose(float((noise - shift[..., None, None]).std()), NOISE, rel_tol=0.02)
    channels = torch.corrcoef(shift.flatten(0, 1).T)
    assert (channels - torch.eye(3)).abs().max() < 0.15


def test_the_mean_image_is_subtracted_where_the_patch_lies() -> None:
    images = coordinates()
    mean = images[0].float() / 255
    patches = pairs(images, mean).svdd(32, torch.zeros(100).long())
    assert patches.abs().max() < 1e-6


def test_the_generator_decides() -> None:
    number = torch.zeros(8).long()
    assert torch.equal(pairs(seed=1).svdd(32, number), pairs(seed=1).svdd(32, number))
    assert not torch.equal(pairs(seed=1).svdd(32, number), pairs(seed=2).svdd(32, number))
