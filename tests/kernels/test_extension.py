"""A greedy coreset that goes on, against the same selection from all distances."""

import pytest
import torch

from anomaly_lib.kernels.coreset import greedy_coreset
from anomaly_lib.kernels.extension import coreset_extension
from anomaly_lib.kernels.neighbors import NeighborIndex


def extended(rows: torch.Tensor, size: int, coreset: torch.Tensor) -> torch.Tensor:
    distances = torch.cdist(rows.double(), coreset.double()).square().amin(dim=1).float()
    return greedy_coreset(rows, size, distances)


@pytest.mark.parametrize("size", [1, 7, 150, 600])
@pytest.mark.parametrize("spread", [0.2, 1.0, 5.0])
def test_it_is_the_selection_from_the_distances_of_all_rows(size: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(size)
    coreset = torch.randn(6000, 6, generator=generator)  # as many as are brought into clusters
    rows = spread * torch.randn(600, 6, generator=generator)
    index = NeighborIndex(coreset)
    assert index._clusters is not None
    assert torch.equal(coreset_extension(rows, size, index), extended(rows, size, coreset))


def test_rows_that_the_coreset_has_are_selected_last() -> None:
    generator = torch.Generator().manual_seed(0)
    coreset = torch.randn(50, 4, generator=generator)
    rows = torch.cat([coreset, 9 + torch.randn(5, 4, generator=generator)])
    assert set(coreset_extension(rows, 5, NeighborIndex(coreset)).tolist()) == set(range(50, 55))
    assert sorted(coreset_extension(rows, 55, NeighborIndex(coreset)).tolist()) == list(range(55))


def test_equal_rows_do() -> None:
    rows = torch.ones(20, 3)
    assert len(coreset_extension(rows, 10, NeighborIndex(torch.ones(5, 3))).unique()) == 10
