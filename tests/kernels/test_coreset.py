"""Coreset selection against the textbook's loop in float64, and where the official code starts it."""

import pytest
import torch

from anomaly_lib.kernels.coreset import greedy_coreset, random_projection, start_at_all, start_at_some


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_coreset(rows: torch.Tensor, size: int, start: torch.Tensor) -> list[int]:
    """Select the farthest row, one after the other, with all distances brought up to date each time."""
    rows, distances = rows.double(), start.double().clone()
    selected: list[int] = []
    for _ in range(size):
        pick = int(distances.argmax())
        selected.append(pick)
        distances = torch.minimum(distances, (rows - rows[pick]).square().sum(dim=1))
        distances[selected] = -1
    return selected


def covering_radius(rows: torch.Tensor, selected: torch.Tensor) -> float:
    rows = rows.double()
    return float(torch.cdist(rows, rows[selected]).amin(dim=1).max())


def check(rows: torch.Tensor, size: int, start: torch.Tensor) -> torch.Tensor:
    """Check what holds for any rows, ties or not: as many as asked, none twice, and as good a cover."""
    selected = greedy_coreset(rows, size, start)
    assert selected.shape == (size,)
    assert selected.dtype == torch.int64
    assert len(selected.unique()) == size
    assert ((selected >= 0) & (selected < len(rows))).all()
    wanted = covering_radius(rows, torch.tensor(slow_coreset(rows, size, start)))
    assert covering_radius(rows, selected) == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    return selected


STARTS = {
    "all": start_at_all,
    "some": lambda rows: start_at_some(rows, seeded(9)),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("n", "d", "size"), [(40, 2, 40), (300, 8, 60), (1500, 6, 400), (3000, 16, 30), (30, 3000, 9)]
)
def test_the_rows_are_those_of_the_textbooks_loop(n: int, d: int, size: int, start: str) -> None:
    rows = torch.randn(n, d, generator=seeded())
    first = STARTS[start](rows)
    assert check(rows, size, first).tolist() == slow_coreset(rows, size, first)


def test_more_selections_than_are_brought_up_to_date_at_once() -> None:
    rows = torch.randn(2500, 6, generator=seeded())
    first = start_at_all(rows)
    assert check(rows, 1300, first).tolist() == slow_coreset(rows, 1300, first)


def test_one_row_is_the_one_with_the_largest_start() -> None:
    rows = torch.randn(50, 3, generator=seeded())
    first = torch.rand(50, generator=seeded(1))
    assert greedy_coreset(rows, 1, first).tolist() == [int(first.argmax())]


def test_a_single_row() -> None:
    assert greedy_coreset(torch.ones(1, 4), 1, torch.zeros(1)).tolist() == [0]
    assert greedy_coreset(torch.ones(1, 4), 1, start_at_some(torch.ones(1, 4), seeded())).tolist() == [0]
    assert greedy_coreset(torch.ones(1, 4), 1, start_at_all(torch.ones(1, 4))).tolist() == [0]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [1, 7, 1200])
def test_equal_rows_are_all_selected_once(size: int, start: str) -> None:
    rows = torch.full((1200, 5), 0.7)
    check(rows, size, STARTS[start](rows))


@pytest.mark.parametrize("start", STARTS)
def test_duplicates_are_selected_only_when_nothing_else_is_left(start: str) -> None:
    distinct = torch.randn(30, 4, generator=seeded())
    rows = distinct.repeat(4, 1)
    assert covering_radius(rows, check(rows, 30, STARTS[start](rows))) < 1e-3
    check(rows, 31, STARTS[start](rows))
    check(rows, 120, STARTS[start](rows))


def test_ties_on_a_grid_cover_as_well() -> None:
    axis = torch.arange(12.0)
    rows = torch.cartesian_prod(axis, axis)
    for size in (1, 2, 5, 50, 143, 144):
        check(rows, size, start_at_all(rows))


def test_a_huge_offset_changes_nothing() -> None:
    rows = torch.randint(-500, 500, (900, 10), generator=seeded()) / 64.0
    moved = rows + 1e4  # exact: the rows are multiples of 1 / 64
    first = start_at_all(rows)
    assert torch.allclose(start_at_all(moved), first, rtol=1e-4)
    assert greedy_coreset(moved, 90, first).tolist() == greedy_coreset(rows, 90, first).tolist()
    check(moved, 90, first)


def test_rows_that_are_not_contiguous_are_left_as_they_are() -> None:
    rows = torch.randn(12, 400, generator=seeded()).T
    start, before = start_at_all(rows), rows.clone()
    asked = start.clone()
    assert check(rows, 40, start).tolist() == slow_coreset(rows, 40, start)
    assert torch.equal(rows, before)
    assert torch.equal(start, asked)


@pytest.mark.parametrize("size", [0, -3, 11])
def test_a_size_that_there_is_not_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} rows was asked of 10 rows"):
        greedy_coreset(torch.zeros(10, 2), size, torch.zeros(10))


def test_progress_begins_at_zero_and_reaches_the_size(recorder) -> None:
    rows = torch.randn(2000, 4, generator=seeded())
    greedy_coreset(rows, 700, start_at_all(rows), recorder)
    done = [call[1] for call in recorder.calls]
    assert done[0] == 0
    assert done == sorted(done)
    assert recorder.last() == {"coreset": (700, 700)}


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_start_at_all_is_the_root_sum_of_squares_of_the_full_table(offset: float) -> None:
    """As the official greedy_coreset has it: the norm of each row of the matrix of distances."""
    rows = torch.randint(-500, 500, (120, 9), generator=seeded()) / 64.0 + offset
    table = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.allclose(start_at_all(rows).double(), table.norm(dim=1).square(), rtol=1e-4)


def test_the_start_at_some_is_the_squared_mean_distance_to_ten_rows() -> None:
    rows = torch.randn(5000, 9, generator=seeded())
    start = start_at_some(rows, seeded(4))
    table = torch.cdist(rows.double(), rows[torch.randperm(5000, generator=seeded(4))[:10]].double())
    assert torch.allclose(start.double(), table.mean(dim=1).square(), rtol=1e-4)


def test_the_start_at_some_of_fewer_rows_takes_all() -> None:
    rows = torch.randn(4, 3, generator=seeded())
    table = torch.cdist(rows.double(), rows.double())
    assert torch.allclose(start_at_some(rows, seeded()).double(), table.mean(dim=1).square(), rtol=1e-4)


def test_a_projection_is_spread_evenly_within_the_bounds_of_a_linear_layer() -> None:
    projection = random_projection(400, 128, seeded())
    assert projection.shape == (400, 128)
    assert float(projection.abs().max()) == pytest.approx(1 / 20, rel=1e-3)
    assert float(projection.mean()) == pytest.approx(0, abs=1e-3)
    assert float(projection.std()) == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
    assert torch.equal(projection, random_projection(400, 128, seeded()))
    assert not torch.equal(projection, random_projection(400, 128, seeded(1)))


def test_a_projection_hardly_changes_which_rows_are_far_apart() -> None:
    rows = torch.randn(60, 400, generator=seeded(2)) * torch.linspace(0.5, 2, 60)[:, None]
    before, after = (torch.pdist(each) for each in (rows, rows @ random_projection(400, 128, seeded())))
    assert torch.corrcoef(torch.stack([before, after]))[0, 1] > 0.95


def test_nothing_is_projected_nor_drawn_between_equal_dimensions() -> None:
    generator = seeded()
    before = generator.get_state()
    assert torch.equal(random_projection(5, 5, generator), torch.eye(5))
    assert torch.equal(generator.get_state(), before)
