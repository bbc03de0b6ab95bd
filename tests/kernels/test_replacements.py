"""The rows of a coreset that has not seen an image: where they lie, and what they are for."""

import pytest
import torch

from anomaly_lib.kernels.coreset import greedy_coreset, start_at_all
from anomaly_lib.kernels.neighbors import NeighborIndex
from anomaly_lib.kernels.replacements import replacement_rows


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coreset(patches: torch.Tensor, size: int) -> torch.Tensor:
    return greedy_coreset(patches, size, start_at_all(patches))


@pytest.mark.parametrize("size", [3, 20, 60])
def test_they_are_patches_of_other_images_that_the_image_s_rows_covered(size: int) -> None:
    patches, image_of = torch.randn(6 * 20, 5, generator=seeded(size)), torch.arange(6).repeat_interleave(20)
    kept = coreset(patches, size)
    chosen, instead_of = replacement_rows(patches, image_of, patches[kept], image_of[kept])
    owner = image_of[kept[torch.cdist(patches, patches[kept]).argmin(dim=1)]]
    assert (owner[chosen] == instead_of).all()
    assert (image_of[chosen] != instead_of).all()
    assert not set(chosen.tolist()) & set(kept.tolist())
    for image in range(6):
        rows = int((image_of[kept] == image).sum())
        orphans = int(((owner == image) & (image_of != image)).sum())
        assert int((instead_of == image).sum()) == min(rows, orphans)
        assert len(set(chosen[instead_of == image].tolist())) == min(rows, orphans)


def test_the_gap_is_closed_as_a_coreset_without_the_image_would_close_it() -> None:
    patches, image_of = torch.rand(10 * 50, 2, generator=seeded(1)), torch.arange(10).repeat_interleave(50)
    kept = coreset(patches, 40)
    chosen, instead_of = replacement_rows(patches, image_of, patches[kept], image_of[kept])
    for image in range(10):
        others = patches[image_of != image]
        left_out = patches[kept[image_of[kept] != image]]
        closed = torch.cat([left_out, patches[chosen[instead_of == image]]])
        anew = others[coreset(others, 40)]
        radii = [float(torch.cdist(others, bank).amin(dim=1).max()) for bank in (left_out, closed, anew)]
        assert radii[1] <= radii[0]
        assert radii[1] <= 1.3 * radii[2]


def test_a_bank_of_one_image_is_replaced_by_patches_of_the_others() -> None:
    patches, image_of = torch.randn(3 * 10, 4, generator=seeded(2)), torch.arange(3).repeat_interleave(10)
    kept = torch.arange(4)
    chosen, instead_of = replacement_rows(patches, image_of, patches[kept], image_of[kept])
    assert instead_of.tolist() == [0] * 4
    assert (image_of[chosen] != 0).all()


def test_where_every_patch_is_kept_there_is_nothing_to_replace() -> None:
    patches, image_of = torch.randn(30, 4, generator=seeded(3)), torch.arange(3).repeat_interleave(10)
    chosen, instead_of = replacement_rows(patches, image_of, patches, image_of)
    assert not len(chosen)
    assert not len(instead_of)


@pytest.mark.parametrize("rows", [30, 5000])
def test_what_further_rows_cover_needs_no_replacement(rows: int) -> None:
    patches, image_of = torch.randn(6 * 20, 5, generator=seeded(4)), torch.arange(6).repeat_interleave(20)
    earlier = torch.randn(rows, 5, generator=seeded(5)) * 0.8 + rows / 5000
    covered = torch.cdist(patches, earlier).square().amin(dim=1)
    kept = greedy_coreset(patches, 30, covered)
    bank, bank_image_of = patches[kept], image_of[kept]
    chosen, instead_of = replacement_rows(patches, image_of, bank, bank_image_of, NeighborIndex(earlier))
    table = torch.cdist(patches, bank).square()
    owner = bank_image_of[table.argmin(dim=1)]
    orphaned = (owner != image_of) & (table.amin(dim=1) < covered)
    expected, of_image = [], []
    for image in range(6):
        orphans = (orphaned & (owner == image)).nonzero().flatten()
        if len(orphans):
            apart = table[orphans][:, bank_image_of != image].amin(dim=1).minimum(covered[orphans])
            size = min(int((bank_image_of == image).sum()), len(orphans))
            expected += orphans[greedy_coreset(patches[orphans], size, apart)].tolist()
            of_image += [image] * size
    assert chosen.tolist() == expected
    assert instead_of.tolist() == of_image
    assert expected
