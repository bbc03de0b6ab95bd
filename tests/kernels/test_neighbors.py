"""Nearest neighbours against all distances in float64."""

import math

import pytest
import torch

from anomaly_lib.kernels.clusters import ClusteredSearch
from anomaly_lib.kernels.exhaustive import ExhaustiveSearch
from anomaly_lib.kernels.neighbors import NeighborIndex

SEARCHES = (ExhaustiveSearch, ClusteredSearch)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nearest(
    queries: torch.Tensor,
    bank: torch.Tensor,
    k: int = 1,
    *,
    query_groups: torch.Tensor | None = None,
    bank_groups: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    return NeighborIndex(bank, bank_groups, queries=len(queries)).search(queries, k, query_groups)


def all_distances(
    queries: torch.Tensor,
    bank: torch.Tensor,
    query_groups: torch.Tensor | None = None,
    bank_groups: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return every squared distance (n, m) in float64, infinite within a group."""
    differences = queries.double()[:, None] - bank.double()[None]
    distances = differences.square().sum(dim=2)
    if query_groups is not None and bank_groups is not None:
        distances[query_groups[:, None] == bank_groups[None]] = math.inf
    return distances


def check(
    queries: torch.Tensor, bank: torch.Tensor, k: int, **groups: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare what every way to search finds with the oracle."""
    truth = all_distances(queries, bank, **groups)
    for search in SEARCHES:
        index = NeighborIndex(bank, groups.get("bank_groups"))
        index._search = search(bank, groups.get("bank_groups"))
        compare(truth, bank, k, *index.search(queries, k, groups.get("query_groups")))
    found = nearest(queries, bank, k, **groups)
    compare(truth, bank, k, *found)
    return found


def compare(
    truth: torch.Tensor, bank: torch.Tensor, k: int, distances: torch.Tensor, rows: torch.Tensor
) -> None:
    """Compare the distances, and see that the rows are at those distances and different ones."""
    wanted = truth.sort(dim=1).values[:, :k]
    assert distances.shape == rows.shape == (len(truth), k)
    assert distances.dtype == torch.float32
    assert rows.dtype == torch.int64
    assert torch.equal(distances.isinf(), wanted.isinf())
    assert (distances[:, 1:] >= distances[:, :-1]).all()
    known = wanted.isfinite()
    # Two rows may be mistaken for one another whose distances differ by less than this.
    alike = 4e-6 * float((bank.double() - bank.double().mean(dim=0)).square().sum(dim=1).max())
    assert torch.allclose(
        distances[known].double(), truth.gather(1, rows)[known], rtol=1e-5, atol=alike / 100
    )
    assert torch.allclose(distances[known].double(), wanted[known], rtol=1e-5, atol=alike)
    for row, here in zip(rows, known, strict=True):
        assert len(row[here].unique()) == here.sum()


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize(("n", "m", "d"), [(1, 7, 3), (50, 40, 1), (33, 300, 16), (5, 9, 3000)])
def test_neighbours_are_those_of_the_full_table(n: int, m: int, d: int, k: int) -> None:
    check(torch.randn(n, d, generator=seeded(1)), torch.randn(m, d, generator=seeded(2)), k)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
def test_a_bank_and_queries_larger_than_any_block(k: int) -> None:
    check(torch.randn(1100, 5, generator=seeded(1)), torch.randn(4500, 5, generator=seeded(2)), k)


@pytest.mark.parametrize("d", [40, 300])
@pytest.mark.parametrize("k", [1, 4])
def test_rows_in_many_small_heaps_far_apart(d: int, k: int) -> None:
    """As patches of aligned parts are, where clusters leave out nearly everything."""
    heaps = torch.randn(30, d, generator=seeded()) * 20
    bank = heaps.repeat(40, 1) + torch.randn(1200, d, generator=seeded(1)) * 0.3
    queries = heaps.repeat(5, 1) + torch.randn(150, d, generator=seeded(2)) * 0.3
    queries[::7] += torch.randn(22, d, generator=seeded(3)) * 30  # anomalous: near to nothing
    groups = torch.arange(150) % 3, torch.arange(1200) % 3
    check(queries, bank, k)
    check(queries, bank, k, query_groups=groups[0], bank_groups=groups[1])


def test_a_bank_of_few_dimensions_is_clustered_for_many_queries() -> None:
    bank = torch.randn(40_000, 16, generator=seeded())
    assert isinstance(NeighborIndex(bank)._search, ClusteredSearch)
    assert isinstance(NeighborIndex(bank, queries=50)._search, ExhaustiveSearch)
    assert isinstance(NeighborIndex(bank[:10_000].repeat(1, 9))._search, ExhaustiveSearch)
    few = NeighborIndex(bank[:10_000])
    assert isinstance(few._search, ExhaustiveSearch)
    assert few._clusters is not None
    assert NeighborIndex(bank[:1000])._clusters is None


def test_clusters_leave_out_most_of_a_bank_of_heaps(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    addmm = torch.addmm

    def counted(norms: torch.Tensor, queries: torch.Tensor, rows: torch.Tensor, alpha: float) -> torch.Tensor:
        compared.append(len(queries) * rows.shape[1])
        return addmm(norms, queries, rows, alpha=alpha)

    heaps = torch.randn(50, 40, generator=seeded()) * 20
    bank = heaps.repeat(200, 1) + torch.randn(10_000, 40, generator=seeded(1)) * 0.3
    queries = heaps.repeat(4, 1) + torch.randn(200, 40, generator=seeded(2)) * 0.3
    search = ClusteredSearch(bank)
    monkeypatch.setattr(torch, "addmm", counted)
    search.search(queries, 1, None)
    assert sum(compared) < 0.2 * len(queries) * len(bank)


@pytest.mark.parametrize("k", [1, 3])
def test_a_rough_search_finds_near_rows_of_other_groups(k: int) -> None:
    bank = torch.randn(5000, 20, generator=seeded())
    queries = bank[:500] + torch.randn(500, 20, generator=seeded(1)) * 0.1
    groups = torch.arange(5000) // 100
    distances, rows = NeighborIndex(bank, groups).search_roughly(queries, k, groups[:500])
    truth = all_distances(queries, bank, groups[:500], groups)
    assert torch.allclose(truth.gather(1, rows), distances.double(), rtol=1e-5)
    assert distances.isfinite().all()
    assert all(len(row.unique()) == k for row in rows)
    nearest_of_all = truth.sort(dim=1).values[:, :k]
    assert (distances / nearest_of_all < 1.5).all(dim=1).float().mean() > 0.8


def test_in_many_dimensions_a_rough_search_is_as_good_as_any() -> None:
    bank, queries = torch.randn(300, 200, generator=seeded()), torch.randn(50, 200, generator=seeded(1))
    index = NeighborIndex(bank)
    for rough, exact in zip(index.search_roughly(queries, 2), index.search(queries, 2), strict=True):
        assert torch.equal(rough, exact)


def test_all_rows_can_be_asked_for() -> None:
    check(torch.randn(4, 6, generator=seeded(1)), torch.randn(9, 6, generator=seeded(2)), 9)


def test_one_row_is_everyones_neighbour() -> None:
    distances, rows = nearest(torch.zeros(3, 2), torch.tensor([[3.0, 4.0]]))
    assert distances.tolist() == [[25.0]] * 3
    assert rows.tolist() == [[0]] * 3


def test_no_queries_have_no_neighbours() -> None:
    distances, rows = nearest(torch.zeros(0, 4), torch.ones(5, 4), 2)
    assert distances.shape == rows.shape == (0, 2)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_row_of_the_bank_is_at_distance_zero_of_itself(offset: float) -> None:
    bank = torch.randn(60, 20, generator=seeded()) + offset
    distances, rows = nearest(bank, bank)
    assert distances.max() == 0
    assert rows[:, 0].tolist() == list(range(60))


def test_duplicates_are_different_neighbours_at_the_same_distance() -> None:
    bank = torch.randn(20, 8, generator=seeded()).repeat(3, 1)
    check(bank[:20] + 0.01, bank, 3)
    check(bank[:20] + 0.01, bank, 5)


def test_when_all_rows_are_equal_every_distance_is() -> None:
    bank = torch.full((50, 7), 0.3)
    distances, rows = nearest(torch.full((4, 7), 0.5), bank, 5)
    assert torch.allclose(distances, torch.tensor(7 * 0.2**2))
    assert all(len(set(row.tolist())) == 5 for row in rows)


def test_exact_ties_on_a_grid() -> None:
    axis = torch.arange(-2.0, 3)
    bank = torch.cartesian_prod(axis, axis)
    check(torch.tensor([[0.5, 0.5], [0.0, 0.0], [2.5, -2.5]]), bank, 4)


@pytest.mark.parametrize("k", [1, 4])
def test_a_huge_offset_costs_no_digits(k: int) -> None:
    """Distances of matrix products would lose them to cancellation."""
    queries, bank = (
        torch.randn(40, 30, generator=seeded(1)) + 1e4,
        torch.randn(80, 30, generator=seeded(2)) + 1e4,
    )
    check(queries, bank, k)


def test_small_distances_between_large_vectors_keep_their_digits() -> None:
    center = torch.randn(64, generator=seeded()) * 100
    bank = center + torch.randn(30, 64, generator=seeded(1)) * 10
    queries = bank + torch.randn(30, 64, generator=seeded(2)) * 1e-3
    distances, rows = nearest(queries, bank)
    truth = all_distances(queries, bank)
    assert rows[:, 0].tolist() == list(range(30))
    assert torch.allclose(distances[:, 0].double(), truth.diagonal(), rtol=2e-2)  # float32 of the input


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 3])
def test_half_precision_rows_are_computed_with_in_full(dtype: torch.dtype, k: int) -> None:
    queries = torch.randn(30, 500, generator=seeded(1)).to(dtype)
    check(queries, torch.randn(60, 500, generator=seeded(2)).to(dtype), k)


def test_rows_that_are_not_contiguous() -> None:
    queries = torch.randn(12, 30, generator=seeded(1)).T
    bank = torch.randn(50, 24, generator=seeded(2))[::2, ::2]
    assert not queries.is_contiguous()
    check(queries, bank, 3)


def test_the_input_is_left_as_it_is() -> None:
    queries, bank = torch.randn(9, 4, generator=seeded(1)), torch.randn(9, 4, generator=seeded(2))
    before = queries.clone(), bank.clone()
    nearest(queries, bank, 2)
    assert torch.equal(queries, before[0])
    assert torch.equal(bank, before[1])


@pytest.mark.parametrize("k", [1, 3, 6])
def test_rows_of_the_own_group_are_no_neighbours(k: int) -> None:
    queries, bank = torch.randn(30, 5, generator=seeded(1)), torch.randn(40, 5, generator=seeded(2))
    queries[:10] = bank[:10]  # the nearest of all, and forbidden
    groups = torch.randint(0, 4, (30,), generator=seeded(3))
    bank_groups = torch.randint(0, 4, (40,), generator=seeded(4))
    groups[:10] = bank_groups[:10]
    check(queries, bank, k, query_groups=groups, bank_groups=bank_groups)


@pytest.mark.parametrize("k", [1, 3])
def test_too_few_rows_of_other_groups_are_infinitely_far(k: int) -> None:
    bank = torch.randn(5, 3, generator=seeded())
    groups = torch.tensor([0, 0, 0, 0, 1])
    distances, rows = nearest(bank, bank, k, query_groups=groups, bank_groups=groups)
    assert distances[:4, 0].isfinite().all()
    assert rows[:4, 0].tolist() == [4] * 4
    assert distances[:4, 1:].isinf().all()
    assert distances[4].isfinite().all()
    assert ((rows >= 0) & (rows < 5)).all()
    alone, _ = nearest(bank, bank, k, query_groups=groups * 0, bank_groups=groups * 0)
    assert alone.isinf().all()


@pytest.mark.parametrize("k", [0, -1, 4])
def test_a_number_of_neighbours_that_there_are_not_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"{k} neighbours were asked of a bank of 3 rows"):
        nearest(torch.zeros(2, 2), torch.zeros(3, 2), k)
