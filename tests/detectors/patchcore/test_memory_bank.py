"""Filling a memory bank: from maps or rows, at once or in portions, from nothing or from a bank."""

from collections.abc import Callable

import pytest
import torch

from anomaly_lib.detectors.patchcore.memory_bank import (
    PROJECTION,
    Keep,
    KeepNumber,
    KeepShare,
    MemoryBank,
    MemoryBankBuilder,
    PatchFeatures,
    PatchMaps,
)
from anomaly_lib.detectors.sampling import select_rows

MAPS = torch.randn(6, 5, 4, 3, generator=torch.Generator().manual_seed(0))  # six images of 12 patches


def embed(maps: list[torch.Tensor]) -> torch.Tensor:
    """Return patches (n, h, w, d) of one layer's maps (n, d, h, w)."""
    return maps[0].permute(0, 2, 3, 1)


FEATURES = embed([MAPS])
ROWS = FEATURES.flatten(0, 2)


def greedy(generator: torch.Generator) -> Callable[[torch.Tensor, int], torch.Tensor]:
    return lambda projected, size: select_rows(projected, size, "approx_greedy_coreset", generator)


def filled(keep: type[KeepShare] | type[KeepNumber], size: float, *, rows: bool, buffer: int) -> MemoryBank:
    """Return the bank of all images, given as maps or as rows, two images at a time."""
    generator = torch.Generator().manual_seed(3)
    chosen: Keep = keep(greedy(generator), size)  # type: ignore[arg-type]
    builder = MemoryBankBuilder(chosen, generator, buffer)
    for first in range(0, 6, 2):
        maps = PatchMaps([MAPS[first : first + 2]], embed)
        builder.add(PatchFeatures(maps.features()) if rows else maps, torch.arange(first, first + 2))
    return builder.finish()


@pytest.mark.parametrize("buffer", [24, 48, 1000])
@pytest.mark.parametrize(("keep", "size", "expected"), [(KeepShare, 0.25, 18), (KeepNumber, 7, 7)])
def test_rows_and_maps_fill_the_same_bank(
    keep: type[KeepShare] | type[KeepNumber], size: float, expected: int, buffer: int
) -> None:
    of_maps, of_rows = (filled(keep, size, rows=rows, buffer=buffer) for rows in (False, True))
    assert len(of_maps) == expected
    for name in ("rows", "places", "projection", "projected"):
        assert torch.equal(getattr(of_maps, name), getattr(of_rows, name))


@pytest.mark.parametrize("buffer", [24, 1000])
@pytest.mark.parametrize(("keep", "size"), [(KeepShare, 0.25), (KeepNumber, 7)])
def test_every_row_is_a_patch_of_its_image_with_its_projection(
    keep: type[KeepShare] | type[KeepNumber], size: float, buffer: int
) -> None:
    bank = filled(keep, size, rows=False, buffer=buffer)
    same = (bank.rows[:, None] == ROWS[None]).all(dim=2)  # (m, all patches)
    assert (same.sum(dim=1) == 1).all()
    image, row, column = bank.places.T
    assert torch.equal(same.int().argmax(dim=1), (image * 4 + row) * 3 + column)
    assert bank.projection.shape == (5, PROJECTION)
    assert torch.allclose(bank.projected, bank.rows @ bank.projection, atol=1e-5)


def test_a_bank_to_begin_with_keeps_its_rows_and_its_projection() -> None:
    generator = torch.Generator().manual_seed(3)
    first = MemoryBankBuilder(KeepShare(greedy(generator), 1.0), generator)
    first.add(PatchFeatures(FEATURES[:2]), torch.arange(2))
    before = first.finish()
    second = MemoryBankBuilder(KeepShare(greedy(generator), 0.5), generator, bank=before)
    second.add(PatchFeatures(FEATURES[2:]), torch.arange(2, 6))
    after = second.finish()
    assert len(after) == 24 + 24
    assert torch.equal(after.rows[:24], before.rows)
    assert torch.equal(after.projection, before.projection)
    assert set(after.image_of[24:].tolist()) <= {2, 3, 4, 5}


def test_a_bank_of_a_number_of_rows_stays_at_that_number_when_more_comes() -> None:
    generator = torch.Generator().manual_seed(3)
    before = filled(KeepNumber, 9, rows=True, buffer=1000)
    builder = MemoryBankBuilder(KeepNumber(greedy(generator), 9), generator, bank=before)
    builder.add(PatchFeatures(100 + torch.randn(1, 5, 6, 5, generator=generator)), torch.tensor([6]))
    after = builder.finish()
    assert len(after) == 9
    assert 0 < int((after.image_of == 6).sum()) < 9


def test_no_patches_make_no_bank() -> None:
    generator = torch.Generator().manual_seed(3)
    with pytest.raises(ValueError, match="no patches"):
        MemoryBankBuilder(KeepShare(greedy(generator), 1.0), generator).finish()
