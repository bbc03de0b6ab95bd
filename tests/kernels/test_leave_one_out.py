"""The worst patch of each image without its own patches in the bank, against all distances in float64."""

import pytest
import torch

from anomaly_lib.kernels.leave_one_out import WorstPatches, leave_one_out
from anomaly_lib.kernels.neighbors import NeighborIndex


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def indices(
    features: torch.Tensor, rough: torch.Tensor, image_of: torch.Tensor, kept: torch.Tensor
) -> tuple[NeighborIndex, NeighborIndex]:
    return NeighborIndex(features[kept], image_of[kept]), NeighborIndex(rough[kept], image_of[kept])


def run(
    features: torch.Tensor, images: int, kept: torch.Tensor, k: int = 1, dims: int = 4
) -> tuple[WorstPatches, torch.Tensor]:
    """Return what the kernel finds and the mean distances (n * p,) that it should have found the worst of."""
    image_of = torch.arange(images).repeat_interleave(len(features) // images)
    projection = torch.randn(features.shape[1], dims, generator=seeded(99)) / features.shape[1] ** 0.5
    projected = features.float() @ projection
    found = leave_one_out(features, projected, image_of, *indices(features, projected, image_of, kept), k)
    bank, others = features[kept].double(), image_of[:, None] != image_of[kept]
    table = (features.double()[:, None] - bank[None]).square().sum(dim=2)
    table[~others] = torch.inf
    return found, table.sort(dim=1).values[:, :k].mean(dim=1)


def check(features: torch.Tensor, images: int, kept: torch.Tensor, k: int = 1, dims: int = 4) -> WorstPatches:
    found, means = run(features, images, kept, k, dims)
    wanted = means.reshape(images, -1).amax(dim=1)
    assert torch.allclose(found.distance.double(), wanted, rtol=1e-4, atol=1e-12)
    patches = len(features) // images
    known = wanted.isfinite()
    assert (found.row[known] // patches == torch.arange(images)[known]).all()
    assert torch.allclose(means[found.row[known]], wanted[known], rtol=1e-4, atol=1e-12)
    if k == 1:
        pairs = features[found.row].double() - features[kept][found.neighbour].double()
        assert torch.allclose(pairs.square().sum(dim=1)[known], wanted[known], rtol=1e-4, atol=1e-12)
    return found


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("dims", [1, 4, 16])
def test_scores_are_those_of_the_full_table(k: int, dims: int) -> None:
    features = torch.randn(12 * 30, 16, generator=seeded(1))
    kept = torch.randperm(len(features), generator=seeded(2))[:80]
    check(features, 12, kept, k, dims)


def test_the_worst_patch_may_be_far_down_in_the_order_of_the_bounds() -> None:
    """On one dimension the order is a poor one, and the distances differ by little."""
    features = torch.randn(6 * 200, 16, generator=seeded(1)) * 0.05
    kept = torch.randperm(len(features), generator=seeded(2))[:300]
    check(features, 6, kept, dims=1)


def test_the_neighbour_is_a_row_of_another_image() -> None:
    features = torch.randn(6 * 20, 8, generator=seeded(1))
    kept = torch.randperm(120, generator=seeded(2))[:40]
    found = check(features, 6, kept)
    assert (kept[found.neighbour] // 20 != torch.arange(6)).all()


def test_a_projection_that_says_nothing_costs_time_but_no_correctness() -> None:
    features = torch.randn(5 * 40, 12, generator=seeded(1))
    image_of = torch.arange(5).repeat_interleave(40)
    kept = torch.arange(0, 200, 3)
    nothing = torch.zeros(200, 2)
    found = leave_one_out(features, nothing, image_of, *indices(features, nothing, image_of, kept))
    _, means = run(features, 5, kept)
    assert torch.allclose(found.distance.double(), means.reshape(5, -1).amax(dim=1), rtol=1e-4)


def test_images_whose_patches_are_all_kept() -> None:
    features = torch.randn(4 * 15, 6, generator=seeded(1))
    check(features, 4, torch.arange(60), k=2)


def test_equal_images_are_at_distance_zero() -> None:
    features = torch.randn(9, 6, generator=seeded(1)).repeat(3, 1)
    assert check(features, 3, torch.arange(27)).distance.tolist() == [0, 0, 0]


def test_all_rows_equal() -> None:
    features = torch.full((4 * 10, 5), 0.3)
    assert check(features, 4, torch.arange(0, 40, 7)).distance.tolist() == [0] * 4


def test_a_huge_offset_costs_no_digits() -> None:
    features = torch.randint(-500, 500, (8 * 20, 10), generator=seeded()) / 64.0
    kept = torch.arange(0, 160, 3)
    near, far = check(features, 8, kept), check(features + 1e4, 8, kept)
    assert torch.allclose(near.distance, far.distance, rtol=1e-5)


def test_a_single_image_has_nothing_to_be_compared_with() -> None:
    features = torch.randn(20, 6, generator=seeded(1))
    found, _ = run(features, 1, torch.arange(0, 20, 2))
    assert found.distance.tolist() == [torch.inf]


@pytest.mark.parametrize("k", [1, 4])
def test_a_bank_of_one_image_leaves_that_image_without_neighbours(k: int) -> None:
    features = torch.randn(3 * 20, 6, generator=seeded(1))
    found = check(features, 3, torch.arange(20, 40, 2), k)
    assert found.distance.isinf().tolist() == [False, True, False]


def test_fewer_rows_of_other_images_than_neighbours_asked_for() -> None:
    features = torch.randn(3 * 10, 6, generator=seeded(1))
    kept = torch.tensor([0, 1, 2, 3, 10])  # four rows of the first image and one of the second
    found = check(features, 3, kept, k=2)
    assert found.distance.isinf().tolist() == [True, False, False]


def test_one_patch_an_image() -> None:
    check(torch.randn(30, 4, generator=seeded(1)), 30, torch.arange(0, 30, 2))


def test_half_precision_features() -> None:
    features = torch.randn(5 * 30, 40, generator=seeded(1)).half()
    check(features, 5, torch.arange(0, 150, 4))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("further", [0, 1, 5])
def test_rows_that_are_not_in_the_bank_count_as_well(k: int, further: int) -> None:
    features = torch.randn(8 * 30, 16, generator=seeded(1))
    image_of = torch.arange(8).repeat_interleave(30)
    kept = torch.randperm(len(features), generator=seeded(2))[:60]
    more = torch.rand(len(features), further, generator=seeded(3)) * 20
    found = leave_one_out(
        features, features[:, :4], image_of, *indices(features, features[:, :4], image_of, kept), k, more
    )
    table = (features.double()[:, None] - features[kept].double()[None]).square().sum(dim=2)
    table[image_of[:, None] == image_of[kept]] = torch.inf
    means = torch.cat([table, more.double()], dim=1).sort(dim=1).values[:, :k].mean(dim=1)
    assert torch.allclose(found.distance.double(), means.reshape(8, -1).amax(dim=1), rtol=1e-4)
