"""Random changes that leave good parts good: what each does, how often, and within which limits."""

import colorsys
import math
from collections.abc import Sequence

import pytest
import torch

from anomaly_lib.errors import ParameterError
from anomaly_lib.kernels import augment as module
from anomaly_lib.kernels.augment import AUGMENTATIONS, augmentation_of, augmented, require_augmentations

NEVER, LOWEST, MIDDLE, HIGHEST = 0.99, 0.0, 0.5, 1.0
NO_OTHERS = (NEVER,) * 3  # no blur; neither sharper, embossed nor lit; no tint


class Script(module._Draw):
    """Draws that are written down: shares of the way from the lowest to the highest, and choices."""

    def __init__(self, *shares: float, choices: Sequence[int] = ()) -> None:
        super().__init__(torch.Generator().manual_seed(0))
        self.shares, self.choices = iter(shares), iter(choices)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * next(self.shares)

    def one_of(self, number: int) -> int:
        choice = next(self.choices)
        assert choice < number
        return choice

    def assert_all_drawn(self) -> None:
        assert list(self.shares) == []
        assert list(self.choices) == []


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(200, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def change(images: torch.Tensor, *kinds: str, seed: int = 0) -> torch.Tensor:
    return augmented(images, kinds, torch.Generator().manual_seed(seed))


def flat(value: float, side: int = 9) -> torch.Tensor:
    return torch.full((3, side, side), value, dtype=torch.float32)


def point(ground: float, value: float, side: int = 9) -> torch.Tensor:
    """Return a flat image whose first channel has one pixel of another value, in the centre."""
    image = flat(ground, side)
    image[0, side // 2, side // 2] = value
    return image


def ramp(side: int = 33, *, down: bool = False) -> torch.Tensor:
    """Return an image whose pixels are their own place across, or down, from -1 to 1 between the borders."""
    places = (torch.arange(side) * 2 + 1) / side - 1
    across = places.expand(3, side, side)
    return across.transpose(1, 2).clone() if down else across.clone()


# --- All of them ---


def test_about_half_of_the_images_stay_as_they_are(images: torch.Tensor) -> None:
    changed = change(images, *AUGMENTATIONS)
    same = (changed == images).flatten(1).all(dim=1)
    assert 80 <= int(same.sum()) <= 125
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1


def test_the_seed_decides(images: torch.Tensor) -> None:
    before = images.clone()
    assert torch.equal(change(images, "flip"), change(images, "flip"))
    assert not torch.equal(change(images, "flip"), change(images, "flip", seed=1))
    assert torch.equal(images, before)
    assert change(images[:0], "flip").shape == (0, 3, 16, 16)
    again = augmentation_of(["flip"], torch.Generator().manual_seed(0))
    first, second = again(images), again(images)
    assert torch.equal(first, change(images, "flip"))
    assert not torch.equal(first, second)  # the generator goes on


def test_a_kind_that_there_is_not_is_named_with_those_that_there_are() -> None:
    require_augmentations(AUGMENTATIONS)
    with pytest.raises(ParameterError, match="unknown augmentation 'spin': use some of flip, rotate90"):
        require_augmentations(["flip", "spin"])


def test_draws_lie_within_their_limits_and_in_their_shares() -> None:
    draw = module._Draw(torch.Generator().manual_seed(0))
    numbers = torch.tensor([draw.between(-0.2, 0.6) for _ in range(2000)])
    assert -0.2 <= float(numbers.min()) < -0.19
    assert 0.59 < float(numbers.max()) <= 0.6
    assert float(numbers.mean()) == pytest.approx(0.2, abs=0.03)
    assert sum(draw.chance(0.3) for _ in range(2000)) == pytest.approx(600, abs=80)
    choices = torch.tensor([draw.one_of(4) for _ in range(2000)]).bincount()
    assert len(choices) == 4
    assert int(choices.min()) > 420
    noise = draw.noise((3, 40, 50))
    assert noise.shape == (3, 40, 50)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)


EFFECTS = ("_blurred", "_sharpened", "_embossed", "_lit", "_tinted", "_moved")


def test_each_effect_is_as_frequent_as_in_the_authors_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each adds one here, so that what they return is seen to be used."""
    times = dict.fromkeys(EFFECTS, 0)

    def count(name: str, image: torch.Tensor) -> torch.Tensor:
        times[name] += 1
        return image + 1

    for name in EFFECTS:
        monkeypatch.setattr(module, name, lambda image, *rest, name=name: count(name, image))
    draw = module._Draw(torch.Generator().manual_seed(0))
    total = sum(float(module._changed(torch.zeros(3, 1, 1), (), draw)[0]) for _ in range(2000))
    assert total == sum(times.values())
    share = {name: number / 2000 for name, number in times.items()}
    expected = dict(zip(EFFECTS, (0.2, 0.1, 0.1, 0.1, 0.3, 0.2), strict=True))
    assert share == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize(
    ("kind", "often"), [("noise", 0.2), ("flip", 0.5), ("rotate90", 0.375), ("rotate45", 0), ("", 0)]
)
def test_what_not_every_part_allows_comes_only_when_it_is_allowed(
    kind: str, often: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the quarter turns are by none."""
    for name in EFFECTS:
        monkeypatch.setattr(module, name, lambda image, *rest: image)
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    draw = module._Draw(torch.Generator().manual_seed(0))
    changed = sum(not torch.equal(module._changed(image, (kind,), draw), image) for _ in range(1000))
    assert changed / 1000 == pytest.approx(often, abs=0.05 if often else 0)


# --- Blur ---


@pytest.mark.parametrize(("choice", "length"), [(0, 3), (1, 5), (2, 7)])
@pytest.mark.parametrize("kind", [2, 3])
def test_motion_spreads_a_point_along_a_line_of_the_drawn_length(kind: int, choice: int, length: int) -> None:
    draw = Script(0.0, choices=(kind, choice))
    blurred = module._blurred(point(0, 1, 15), draw)
    draw.assert_all_drawn()
    expected = flat(0, 15)
    expected[0, 7, 7 - length // 2 : 8 + length // 2] = 1 / length
    assert torch.allclose(blurred, expected, atol=1e-6)


@pytest.mark.parametrize(("share", "places"), [(0.25, [(k, k) for k in range(-2, 3)]), (0.5, range(-3, 4))])
def test_motion_has_any_direction(share: float, places: Sequence[tuple[int, int] | int]) -> None:
    blurred = module._blurred(point(0, 1, 15), Script(share, choices=(2, 2)))
    expected = flat(0, 15)
    for place in places:
        down, across = place if isinstance(place, tuple) else (place, 0)
        expected[0, 7 + down, 7 + across] = 1 / len(places)
    assert torch.allclose(blurred, expected, atol=1e-6)


def test_the_mean_spreads_a_point_over_nine_pixels() -> None:
    blurred = module._blurred(point(0, 0.9), Script(choices=(1,)))
    expected = flat(0)
    expected[0, 3:6, 3:6] = 0.1
    assert torch.allclose(blurred, expected, atol=1e-6)


def test_the_median_removes_a_point_and_keeps_an_edge() -> None:
    assert torch.equal(module._blurred(point(0.2, 0.9), Script(choices=(0,))), flat(0.2))
    edge = flat(0.2)
    edge[:, :, 5:] = 0.8
    assert torch.equal(module._blurred(edge, Script(choices=(0,))), edge)
    lone = point(0.2, 0.9)
    lone[0, 4, 3:6] = lone[0, 3, 4:6] = 0.9  # five of nine around the centre
    assert float(module._blurred(lone, Script(choices=(0,)))[0, 4, 4]) == pytest.approx(0.9)


@pytest.mark.parametrize("choices", [(0,), (1,), (2, 2), (3, 1)])
def test_blur_leaves_a_flat_picture_alone_up_to_its_border(choices: tuple[int, ...]) -> None:
    blurred = module._blurred(flat(0.3), Script(0.3, choices=choices))
    assert torch.allclose(blurred, flat(0.3), atol=1e-6)


def test_blur_mirrors_the_border_about_its_outermost_pixel() -> None:
    blurred = module._blurred(ramp(9), Script(choices=(1,)))
    assert torch.allclose(blurred[:, :, 1:-1], ramp(9)[:, :, 1:-1], atol=1e-6)
    assert blurred[0, 0, 0] == pytest.approx(float((ramp(9)[0, 0, 0] + 2 * ramp(9)[0, 0, 1]) / 3))


# --- Sharper, embossed, lit, tinted ---


@pytest.mark.parametrize(
    ("light", "mix", "ground", "centre", "beside"),
    [
        (LOWEST, HIGHEST, 0.3, 0.75, 0.25),  # halves of 0.2, 1 and 0.1, and of 0.4, 0.5 and 0.4
        (LOWEST, LOWEST, 0.36, 0.6, 0.34),  # fifths
        (HIGHEST, HIGHEST, 0.4, 0.75, 0.35),
    ],
)
def test_sharpening_lifts_a_point_and_darkens_its_surroundings(
    light: float, mix: float, ground: float, centre: float, beside: float
) -> None:
    draw = Script(light, mix)
    sharp = module._sharpened(point(0.4, 0.5), draw)
    draw.assert_all_drawn()
    assert float(sharp[0, 4, 4]) == pytest.approx(centre)
    assert torch.allclose(sharp[1:], torch.full((2, 9, 9), ground), atol=1e-6)
    sharp[0, 4, 4] = beside
    expected = torch.full((9, 9), ground)
    expected[3:6, 3:6] = beside
    assert torch.allclose(sharp[0], expected, atol=1e-6)


@pytest.mark.parametrize(("strength", "mix", "step"), [(1.0, 1.0, 0.17), (0.0, 1.0, 0.12), (1.0, 0.0, 0.068)])
@pytest.mark.parametrize("down", [False, True])
def test_embossing_lights_what_rises_to_the_right_and_down_and_shades_what_falls(
    strength: float, mix: float, step: float, down: bool
) -> None:
    image = flat(0.4)
    image[:, :, 3:6] = 0.6  # rises before column 3, falls after column 5
    expected = image.clone()
    expected[:, :, 2:4] += step
    expected[:, :, 5:7] -= step
    image, expected = (each.transpose(1, 2) if down else each for each in (image, expected))
    embossed = module._embossed(image, Script(strength, mix))
    assert torch.allclose(embossed, expected, atol=1e-6)


def test_a_relief_is_no_brighter_than_white_and_no_darker_than_black() -> None:
    bar = flat(0)
    bar[:, :, 3:6] = 1
    expected = bar.clone()
    expected[:, :, [2, 5]] = 0.5  # halves of black and white, where the relief itself is beyond them
    assert torch.allclose(module._embossed(bar, Script(HIGHEST, HIGHEST)), expected)


@pytest.mark.parametrize(
    ("shares", "factor", "offset"),
    [((LOWEST, LOWEST), 0.8, -0.1), ((HIGHEST, LOWEST), 1.2, -0.1), ((MIDDLE, HIGHEST), 1, 0.2)],
)
def test_light_scales_and_lifts_all_pixels_alike(
    images: torch.Tensor, shares: tuple[float, float], factor: float, offset: float
) -> None:
    lit = module._lit(images[0], Script(*shares))
    assert torch.allclose(lit, factor * images[0] + offset, atol=1e-6)


def test_what_other_effects_made_brighter_than_white_is_cut_before_the_tint() -> None:
    glaring = torch.tensor([1.2, 0.6, 0.6])[:, None, None].expand(
        3, 4, 4
    )  # (1, 0.6, 0.6), turned by 20 of 60
    tinted = module._tinted(glaring, Script(HIGHEST, MIDDLE, MIDDLE))[:, 0, 0] - 5 / 255
    assert tinted.tolist() == pytest.approx([1, 0.6 + 0.4 / 3, 0.6], abs=1e-3)


@pytest.mark.parametrize(
    ("shares", "degrees", "saturation", "lift"),
    [
        ((HIGHEST, MIDDLE, MIDDLE), 20, 1, 5 / 255),
        ((LOWEST, MIDDLE, MIDDLE), -20, 1, 5 / 255),
        ((MIDDLE, HIGHEST, MIDDLE), 0, 285 / 255, 5 / 255),
        ((MIDDLE, LOWEST, MIDDLE), 0, 225 / 255, 5 / 255),
        ((MIDDLE, MIDDLE, HIGHEST), 0, 1, 20 / 255),
        ((MIDDLE, MIDDLE, LOWEST), 0, 1, -10 / 255),
    ],
)
def test_tint_turns_the_hue_stretches_the_saturation_and_lifts_the_value(
    shares: tuple[float, float, float], degrees: float, saturation: float, lift: float
) -> None:
    red = torch.tensor([0.6, 0.3, 0.3])[:, None, None].expand(3, 4, 4)
    tinted = module._tinted(red, Script(*shares))[:, 2, 2].tolist()
    hue = colorsys.rgb_to_hsv(*tinted)[0] * 360
    assert (hue + 180) % 360 - 180 == pytest.approx(degrees, abs=0.5)
    assert max(tinted) - min(tinted) == pytest.approx(0.3 * saturation, abs=1e-3)
    assert torch.allclose(module._tinted(flat(0.4), Script(*shares)), flat(0.4 + lift), atol=1e-6)


# --- What not every part allows ---


@pytest.mark.parametrize(("strength", "deviation"), [(LOWEST, 0.01), (HIGHEST, 0.03)])
@pytest.mark.parametrize("coloured", [True, False])
def test_noise_has_the_drawn_strength_in_each_channel_or_in_all_alike(
    strength: float, deviation: float, coloured: bool
) -> None:
    draw = Script(*NO_OTHERS, 0.19, 0.49 if coloured else NEVER, strength, NEVER)
    noise = module._changed(flat(0.5, 64), ("noise",), draw) - 0.5
    draw.assert_all_drawn()
    assert float(noise.std()) == pytest.approx(deviation, rel=0.05)
    assert float(noise.mean()) == pytest.approx(0, abs=deviation / 20)
    assert torch.equal(noise[0], noise[1]) != coloured


def test_a_flip_exchanges_left_and_right(images: torch.Tensor) -> None:
    draw = Script(*NO_OTHERS, 0.49, NEVER)
    assert torch.equal(module._changed(images[0], ("flip",), draw), images[0].flip(2))
    draw.assert_all_drawn()


@pytest.mark.parametrize("quarters", range(4))
def test_quarter_turns_are_exact(images: torch.Tensor, quarters: int) -> None:
    draw = Script(*NO_OTHERS, 0.49, NEVER, choices=(quarters,))
    turned = module._changed(images[0], ("rotate90",), draw)
    assert torch.equal(turned, images[0].rot90(quarters, (1, 2)))
    draw.assert_all_drawn()


def test_what_is_not_square_keeps_its_shape_and_is_not_turned(images: torch.Tensor) -> None:
    wide = images[:, :, :8]
    assert torch.equal(module._changed(wide[0], ("rotate90",), Script(*NO_OTHERS, 0.49, NEVER)), wide[0])
    assert change(wide, *AUGMENTATIONS).shape == wide.shape


# --- Moved ---

UNMOVED = 1 / 3  # of the way from a scale of 0.95 to one of 1.1: none
INSIDE = slice(10, 23)  # of 33 rows and columns: sees no border, however it is moved


def test_without_the_border_there_is_no_turn_and_no_shift_but_a_smaller_scale() -> None:
    draw = Script(HIGHEST, LOWEST)
    moved = module._moved(ramp(), (), draw)
    draw.assert_all_drawn()
    assert torch.allclose(moved[:, :, INSIDE], ramp()[:, :, INSIDE] / 0.95, atol=1e-5)
    assert torch.allclose(module._moved(ramp(), (), Script(HIGHEST, HIGHEST)), ramp(), atol=1e-5)


@pytest.mark.parametrize(
    ("kinds", "degrees"), [(("background_edge",), 15), (("background_edge", "rotate45"), 45)]
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_turns_are_by_up_to_15_or_45_degrees(kinds: tuple[str, ...], degrees: float, sign: int) -> None:
    draw = Script(HIGHEST if sign > 0 else LOWEST, UNMOVED, MIDDLE, MIDDLE)
    moved = module._moved(ramp(), kinds, draw)
    draw.assert_all_drawn()
    angle = math.radians(sign * degrees)
    expected = math.cos(angle) * ramp() - math.sin(angle) * ramp(down=True)
    assert torch.allclose(moved[:, INSIDE, INSIDE], expected[:, INSIDE, INSIDE], atol=1e-5)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize(("share", "shift"), [(LOWEST, -0.1), (HIGHEST, 0.1)])
def test_shifts_are_by_up_to_a_twentieth_of_the_side(share: float, shift: float, down: bool) -> None:
    draw = Script(MIDDLE, UNMOVED, *((MIDDLE, share) if down else (share, MIDDLE)))
    moved = module._moved(ramp(down=down), ("background_edge",), draw)
    assert torch.allclose(moved[:, INSIDE, INSIDE], ramp(down=down)[:, INSIDE, INSIDE] + shift, atol=1e-5)


@pytest.mark.parametrize(("share", "scale"), [(LOWEST, 0.95), (HIGHEST, 1.1)])
def test_scales_are_from_095_to_11(share: float, scale: float) -> None:
    moved = module._moved(ramp(), ("background_edge",), Script(MIDDLE, share, MIDDLE, MIDDLE))
    assert torch.allclose(moved[:, INSIDE, INSIDE], ramp()[:, INSIDE, INSIDE] / scale, atol=1e-5)


def test_the_border_is_mirrored_not_black() -> None:
    moved = module._moved(flat(0.7, 33), AUGMENTATIONS, Script(HIGHEST, LOWEST, HIGHEST, HIGHEST))
    assert torch.allclose(moved, flat(0.7, 33), atol=1e-5)
