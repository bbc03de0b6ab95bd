"""Pixel metrics from counts beside those from the pixels."""

import math

import numpy as np
import pytest

from anomaly_lib.evaluation.metrics import pixel_metrics
from anomaly_lib.evaluation.pixel_counts import PixelCounts


def maps_and_masks(seed: int, images: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return maps and masks in which half of the images have a defect or two, of higher scores."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((images, 48, 40), bool)
    for mask in masks[: images // 2]:
        top, left = generator.integers(0, 20, 2)
        mask[top : top + 9, left : left + 7] = True
        mask[40:44, 30:] = generator.random() < 0.5
    return (generator.gamma(2.0, 0.3, masks.shape) + 0.7 * masks).astype(np.float32), masks


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_they_are_those_of_the_pixels(scale: float) -> None:
    maps, masks = maps_and_masks(0)
    expected, found = pixel_metrics(maps * scale, masks), PixelCounts.of(maps * scale, masks).metrics()
    for name in ("full_pixel_auroc", "anomaly_pixel_auroc", "aupro", "average_precision", "f1_max"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-3), name
    assert found.f1_threshold == pytest.approx(expected.f1_threshold, rel=2e-2)


def test_scores_of_few_bits_are_counted_exactly() -> None:
    maps, masks = maps_and_masks(1)
    rounded = np.round(maps * 8) / 8
    expected, found = pixel_metrics(rounded, masks), PixelCounts.of(rounded, masks).metrics()
    assert vars(found) == pytest.approx(vars(expected), rel=1e-12)


def test_counts_of_parts_add_up_to_those_of_all() -> None:
    maps, masks = maps_and_masks(2)
    parts = [PixelCounts.of(maps[part], masks[part]) for part in (slice(0, 1), slice(1, 4), slice(4, 6))]
    merged, whole = PixelCounts.merged(parts), PixelCounts.of(maps, masks)
    assert np.array_equal(merged.bins, whole.bins)
    assert np.array_equal(merged.counts, whole.counts)
    assert merged.overlap == pytest.approx(whole.overlap)


@pytest.mark.parametrize("masked", [False, True])
def test_without_pixels_of_both_kinds_there_is_nothing_to_tell(masked: bool) -> None:
    maps, masks = maps_and_masks(3)
    assert math.isnan(PixelCounts.of(maps, np.full_like(masks, masked)).metrics().full_pixel_auroc)
    assert math.isnan(PixelCounts.of(maps[:0], masks[:0]).metrics().full_pixel_auroc)
