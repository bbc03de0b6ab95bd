"""Streamed moments against scikit-learn and against float64 sums written out."""

import time

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf, ledoit_wolf_shrinkage

from anomaly_lib.detectors.gaussian import moments as module
from anomaly_lib.detectors.gaussian.moments import Moments, shrunk, whitening


def vectors(count: int, dimensions: int, *, mean: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Return correlated vectors (count, dimensions) with heavy tails, float64."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions)) / np.sqrt(dimensions)
    return torch.from_numpy(rng.standard_t(5, size=(count, dimensions)) @ mixing + mean)


def streamed(rows: torch.Tensor, *sizes: int) -> Moments:
    moments = Moments()
    for portion in rows.split(list(sizes) or len(rows)):
        moments.add(portion)
        assert moments.mean is not None  # asking settles what has come
    return moments


SHAPES = [(200, 5), (10, 40), (2, 7), (1, 4), (30, 1), (1500, 12)]


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_covariance_and_shrinkage_are_those_of_scikit_learn(shape: tuple[int, int]) -> None:
    rows = vectors(*shape)
    moments, oracle = streamed(rows), LedoitWolf()
    if len(rows) == 1:
        assert moments.shrinkage == 0
        assert not moments.covariance.any()
        return
    oracle.fit(rows.numpy())
    np.testing.assert_allclose(moments.mean, rows.mean(dim=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.T.numpy(), ddof=0).reshape(shape[1], -1))
    assert moments.shrinkage == pytest.approx(oracle.shrinkage_, rel=1e-10, abs=1e-15)
    covariance = shrunk(moments.covariance, moments.shrinkage)
    np.testing.assert_allclose(covariance, oracle.covariance_, rtol=1e-10, atol=1e-14)
    whitened = whitening(covariance)
    np.testing.assert_allclose(whitened.T @ whitened, oracle.precision_, rtol=1e-7, atol=1e-9)
    assert moments.count == len(rows)


@pytest.mark.parametrize("mean", [0.0, 1e3, -1e6])
@pytest.mark.parametrize("dimensions", [3, 30])
def test_halves_merged_are_the_whole(mean: float, dimensions: int) -> None:
    rows = vectors(50, dimensions, mean=mean)
    rows[25:] += 5.0  # so that the halves have different means
    whole, first, second = streamed(rows), streamed(rows[:25]), streamed(rows[25:])
    first.merge(second)
    assert first.count == 50
    tolerance = 1e-10
    assert (first.mean - whole.mean).norm() <= tolerance * whole.mean.norm()
    assert (first.covariance - whole.covariance).norm() <= tolerance * whole.covariance.norm()
    assert first.shrinkage == pytest.approx(whole.shrinkage, rel=tolerance)
    assert second.count == 25
    assert torch.equal(second.mean, rows[25:].mean(dim=0))


def test_a_large_mean_costs_no_digits() -> None:
    rows = vectors(60, 8).float().double()
    far = rows + 2.0**20  # exact in float64
    near, moved = streamed(rows, 20, 20, 20), streamed(far, 7, 13, 40)
    assert (near.covariance - moved.covariance).norm() <= 1e-9 * near.covariance.norm()
    assert moved.shrinkage == pytest.approx(near.shrinkage, rel=1e-8)


def test_portions_of_any_size_give_the_sums_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = vectors(90, 6, mean=3.0)
    monkeypatch.setattr(module, "CHUNK", 16)
    moments = Moments()
    for portion in rows.split([1, 0, 5, 30, 54]):
        moments.add(portion)
    centred = rows - rows.mean(dim=0)
    squares = centred.square().sum(dim=1)
    np.testing.assert_allclose(moments.covariance, centred.T @ centred / 90, rtol=1e-12)
    np.testing.assert_allclose(moments._cubic, squares @ centred, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(moments._quartic, squares @ squares, rtol=1e-12)
    assert moments.shrinkage == pytest.approx(ledoit_wolf_shrinkage(rows.numpy()), rel=1e-10)


def test_merging_nothing_changes_nothing_and_into_nothing_copies() -> None:
    rows = vectors(12, 4)
    moments, empty = streamed(rows), Moments()
    before = moments.covariance.clone()
    moments.merge(empty)
    assert torch.equal(moments.covariance, before)
    empty.merge(moments)
    empty.add(rows)
    assert empty.count == 24
    assert torch.equal(moments.covariance, before)


def test_constant_features_have_no_variance_and_get_the_shrinkage_s() -> None:
    rows = vectors(40, 6)
    rows[:, 2] = 0.1
    moments = streamed(rows, 13, 27)
    assert moments.covariance[2].abs().max() < 1e-15
    covariance = shrunk(moments.covariance, moments.shrinkage)
    assert covariance[2, 2] > 0
    np.testing.assert_allclose(covariance, LedoitWolf().fit(rows.numpy()).covariance_, rtol=1e-10, atol=1e-15)


def test_equal_rows_have_neither_variance_nor_shrinkage() -> None:
    moments = streamed(torch.full((5, 3), 0.7), 2, 3)
    assert moments.covariance.abs().max() < 1e-15
    assert 0 <= moments.shrinkage <= 1


def test_a_singular_covariance_has_the_pseudo_inverse() -> None:
    rows = vectors(4, 9)
    covariance = streamed(rows).covariance  # of rank 3
    whitened = whitening(covariance)
    assert whitened.shape == (3, 9)
    np.testing.assert_allclose(whitened.T @ whitened, np.linalg.pinv(covariance.numpy(), hermitian=True))


def test_float32_rows_are_summed_in_float64() -> None:
    rows = vectors(3000, 3, mean=100.0).float()
    moments = streamed(rows, *([100] * 30))
    np.testing.assert_allclose(moments.covariance, np.cov(rows.double().T.numpy(), ddof=0), rtol=1e-10)


def test_the_largest_level_of_a_b4_is_fitted_and_inverted_in_seconds(all_cores: None) -> None:
    rows = torch.randn(200, 1792, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    moments = streamed(rows, *([8] * 25))
    whitened = whitening(shrunk(moments.covariance, moments.shrinkage))
    assert time.perf_counter() - start < 5
    assert whitened.shape == (1792, 1792)
