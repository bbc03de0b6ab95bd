"""Random changes that leave good parts good."""

import pytest
import torch

from anomaly_lib.kernels import augment as module
from anomaly_lib.kernels.augment import AUGMENTATIONS, augmented


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(200, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def change(images: torch.Tensor, *kinds: str, seed: int = 0) -> torch.Tensor:
    return augmented(images, kinds, torch.Generator().manual_seed(seed))


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


def test_flips_and_quarter_turns_only_where_they_are_allowed(images: torch.Tensor) -> None:
    def is_a_turned_one(changed: torch.Tensor, image: torch.Tensor, *, flip: bool) -> bool:
        candidates = [image.flip(2)] if flip else [image.rot90(k, (1, 2)) for k in (1, 2, 3)]
        return any(torch.equal(changed, candidate) for candidate in candidates)

    for kind, flip in (("flip", True), ("rotate90", False)):
        for kinds in ((kind,), ()):
            changed = change(images, *kinds)
            found = [is_a_turned_one(*pair, flip=flip) for pair in zip(changed, images, strict=True)]
            assert any(found) == bool(kinds)


@pytest.mark.parametrize("effect", ["_blurred", "_sharpened", "_embossed", "_lit", "_tinted"])
def test_effects_change_pixels_and_keep_what_is_seen(effect: str) -> None:
    ramp = torch.linspace(0.2, 0.8, 32).expand(3, 32, 32).clone()
    for seed in range(8):
        draw = module._Draw(torch.Generator().manual_seed(seed))
        changed = getattr(module, effect)(ramp, draw)
        assert changed.shape == ramp.shape
        assert float((changed - ramp)[:, 4:-4, 4:-4].abs().max()) < 0.45


@pytest.mark.parametrize(("kinds", "turns"), [((), False), (("background_edge",), True)])
def test_shifts_and_turns_bring_no_border_in_unless_allowed(kinds: tuple[str, ...], turns: bool) -> None:
    ramp = torch.linspace(0, 1, 33).expand(3, 33, 33).clone()
    tilts = []
    for seed in range(20):
        moved = module._moved(ramp, kinds, module._Draw(torch.Generator().manual_seed(seed)))
        assert float(moved.min()) >= 0
        tilts.append(float((moved[0, 24, 16] - moved[0, 8, 16]).abs()))
        assert kinds or float((moved[0, 16, 16] - 0.5).abs()) < 1e-5  # the centre stays
    assert (max(tilts) > 0.05) == turns
