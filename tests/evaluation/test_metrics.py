"""Every metric against plain loops over its definition, on adversarial inputs, and against scikit-learn."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from anomaly_lib.evaluation.metrics import (
    PixelMetrics,
    auroc,
    average_precision,
    balanced_accuracy,
    f1,
    f1_max,
    pixel_metrics,
)

# --- The definitions, in plain loops. ---


def slow_auroc(scores, labels):
    positives = [s for s, label in zip(scores, labels, strict=True) if label]
    negatives = [s for s, label in zip(scores, labels, strict=True) if not label]
    if not positives or not negatives:
        return math.nan
    wins = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p in positives for n in negatives)
    return wins / len(positives) / len(negatives)


def slow_counts(scores, labels, threshold):
    """Hits, false alarms, misses, correct rejections."""
    counts = [0, 0, 0, 0]
    for score, label in zip(scores, labels, strict=True):
        found = score >= threshold
        counts[(0 if found else 2) if label else (1 if found else 3)] += 1
    return counts


def slow_average_precision(scores, labels):
    if not any(labels):
        return math.nan
    total, last_recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        hits, alarms, misses, _ = slow_counts(scores, labels, threshold)
        recall = hits / (hits + misses)
        total += (recall - last_recall) * hits / (hits + alarms)
        last_recall = recall
    return total


def slow_f1(scores, labels, threshold):
    hits, alarms, misses, _ = slow_counts(scores, labels, threshold)
    return 2 * hits / (2 * hits + alarms + misses) if any(labels) else math.nan


def slow_f1_max(scores, labels):
    """Highest F1 and the highest threshold that reaches it."""
    if not any(labels):
        return math.nan, math.nan
    return max((slow_f1(scores, labels, threshold), threshold) for threshold in set(scores))


def slow_balanced_accuracy(scores, labels, threshold):
    hits, alarms, misses, rejections = slow_counts(scores, labels, threshold)
    if not hits + misses or not alarms + rejections:
        return math.nan
    return (hits / (hits + misses) + rejections / (alarms + rejections)) / 2


def slow_regions(mask):
    """Sets of pixels connected through sides and corners, by flood fill."""
    todo = {(r, c) for r in range(mask.shape[0]) for c in range(mask.shape[1]) if mask[r, c]}
    regions = []
    while todo:
        region, edge = set(), [todo.pop()]
        while edge:
            row, column = edge.pop()
            region.add((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & todo
            todo -= near
            edge.extend(near)
        regions.append(region)
    return regions


def slow_aupro(maps, masks, limit):
    regions = [[(i, *pixel) for pixel in r] for i, mask in enumerate(masks) for r in slow_regions(mask)]
    normal = [float(s) for s, masked in zip(maps.ravel(), masks.ravel(), strict=True) if not masked]
    if not regions or not normal:
        return math.nan
    points = [(0.0, 0.0)]
    for threshold in sorted({float(s) for s in maps.ravel()}, reverse=True):
        found = [sum(float(maps[pixel]) >= threshold for pixel in region) / len(region) for region in regions]
        rate = sum(s >= threshold for s in normal) / len(normal)
        points.append((rate, sum(found) / len(found)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > limit:
            if x0 < limit:
                at_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
                area += (limit - x0) * (y0 + at_limit) / 2
            break
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def slow_pixel_metrics(maps, masks, limit):
    scores, labels = maps.ravel().tolist(), masks.ravel().tolist()
    if not any(labels) or all(labels):
        return PixelMetrics(*[math.nan] * 6)
    anomalous = [bool(mask.any()) for mask in masks]
    return PixelMetrics(
        slow_auroc(scores, labels),
        slow_auroc(maps[anomalous].ravel().tolist(), masks[anomalous].ravel().tolist()),
        slow_aupro(maps, masks, limit),
        slow_average_precision(scores, labels),
        *slow_f1_max(scores, labels),
    )


def values(result):
    return [getattr(result, name) for name in PixelMetrics.__dataclass_fields__]


def close(expected):
    return pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


# --- Scores of images. ---

SCORES = {
    "separated": ([1, 2, 3, 4], [0, 0, 1, 1]),
    "reversed": ([4, 3, 2, 1], [0, 0, 1, 1]),
    "all equal": ([7, 7, 7, 7, 7], [0, 1, 0, 1, 1]),
    "one positive lowest": ([0, 1, 2, 3], [1, 0, 0, 0]),
    "one positive in a tie": ([0, 1, 1, 3], [0, 1, 0, 0]),
    "one negative": ([3, 1, 2], [1, 0, 1]),
    "signed zeros": ([0.0, -0.0, 1.0, -1.0], [0, 1, 1, 0]),
    "one image": ([5], [1]),
    "no positive": ([1, 2, 2], [0, 0, 0]),
    "no negative": ([1, 2, 2], [1, 1, 1]),
    "far from zero": ([2**24 - 2, 2**24 - 1, 2**24 - 1, 2**24], [0, 1, 0, 1]),
    "tiny differences": ([1e9 + 1e-6, 1e9, 1e9 + 2e-6, 1e9 + 3e-6], [0, 0, 1, 1]),
    "two thresholds of equal F1": ([5, 4, 3, 2], [1, 0, 0, 1]),
}


def random_scores(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    scores = rng.integers(0, rng.integers(1, 30), n) - 1e3 * rng.integers(0, 2)
    return scores.tolist(), (rng.random(n) < rng.random()).astype(int).tolist()


score_cases = pytest.mark.parametrize(
    ("scores", "labels"),
    [pytest.param(*case, id=name) for name, case in SCORES.items()]
    + [pytest.param(*random_scores(seed), id=f"seed {seed}") for seed in range(40)],
)


@score_cases
def test_auroc_is_the_share_of_pairs_in_the_right_order(scores, labels):
    assert auroc(scores, labels) == close(slow_auroc(scores, labels))


@score_cases
def test_average_precision_sums_precision_over_recall_gains(scores, labels):
    assert average_precision(scores, labels) == close(slow_average_precision(scores, labels))


@score_cases
def test_f1_max_is_the_best_of_all_thresholds(scores, labels):
    assert f1_max(scores, labels) == close(slow_f1_max(scores, labels)[0])


@score_cases
def test_decisions_at_every_threshold_agree_with_counting(scores, labels):
    for threshold in {*scores, min(scores) - 1, max(scores) + 1, -math.inf, math.inf}:
        assert f1(scores, labels, threshold) == close(slow_f1(scores, labels, threshold))
        expected = slow_balanced_accuracy(scores, labels, threshold)
        assert balanced_accuracy(scores, labels, threshold) == close(expected)


def test_a_score_at_the_threshold_is_anomalous():
    assert f1([1, 2], [0, 1], 2) == 1
    assert balanced_accuracy([1, 2], [0, 1], 2) == 1


def test_a_threshold_between_two_float32_numbers_is_not_rounded_onto_a_score():
    scores = np.array([1, 2], dtype=np.float32)
    just_above_two = float(np.nextafter(2.0, 3.0))
    assert f1(scores, [0, 1], just_above_two) == 0
    assert balanced_accuracy(scores, [0, 1], just_above_two) == 0.5


def test_a_nan_threshold_gives_nan():
    assert math.isnan(f1([1, 2], [0, 1], math.nan))
    assert math.isnan(balanced_accuracy([1, 2], [0, 1], math.nan))


@pytest.mark.parametrize("seed", range(5))
def test_image_metrics_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(3000) % 7 == 0
    scores = np.round(rng.normal(labels, 1), seed).astype(np.float32)  # seed 0: nearly all tied
    threshold = float(np.median(scores))
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    found = scores >= threshold
    assert auroc(scores, labels) == close(sklearn_metrics.roc_auc_score(labels, scores))
    assert average_precision(scores, labels) == close(sklearn_metrics.average_precision_score(labels, scores))
    assert f1_max(scores, labels) == close(best)
    assert f1(scores, labels, threshold) == close(sklearn_metrics.f1_score(labels, found))
    expected = sklearn_metrics.balanced_accuracy_score(labels, found)
    assert balanced_accuracy(scores, labels, threshold) == close(expected)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_depends_on_order_only_and_mirrors_under_negation(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(-20, 20, 300), rng.random(300) < 0.3
    assert auroc(scores.astype(float) ** 3 - 1e6, labels) == auroc(scores, labels)
    assert auroc(-scores, labels) == close(1 - auroc(scores, labels))
    assert auroc(scores, ~labels) == close(1 - auroc(scores, labels))


def test_perfect_reversed_and_constant_scores_give_round_numbers():
    labels = np.arange(1000) >= 993
    assert auroc(np.arange(1000), labels) == 1
    assert auroc(-np.arange(1000), labels) == 0
    assert auroc(np.zeros(1000), labels) == 0.5


FUNCTIONS = [
    auroc,
    average_precision,
    f1_max,
    lambda s, y: f1(s, y, 0),
    lambda s, y: balanced_accuracy(s, y, 0),
]
each_function = pytest.mark.parametrize(
    "function", FUNCTIONS, ids=["auroc", "ap", "f1_max", "f1", "balanced"]
)


@each_function
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("label", [0, 1])
def test_scores_that_are_not_finite_are_refused(function, bad, label):
    with pytest.raises(ValueError, match="scores must be finite"):
        function([0.0, bad, 1.0], [0, label, 1])


@each_function
@pytest.mark.parametrize("labels", [[0, 1], [[0], [0], [1]]])
def test_unequal_shapes_are_refused_with_both_named(function, labels):
    shape = str(np.shape(labels)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=rf"scores \(3,\) and labels {shape} differ"):
        function([0, 1, 2], labels)


@each_function
@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64])
def test_every_label_but_zero_is_anomalous(function, kind):
    scores = [-1.0, -0.5, 0.5, 1.0]
    assert function(scores, np.array([0, 2, 0, 255]).astype(kind)) == function(scores, [0, 1, 0, 1])


@each_function
def test_labels_that_are_fractions_are_refused(function):
    with pytest.raises(ValueError, match="labels must be boolean or integer, not float64"):
        function([0, 1, 2], [0, 0.3, 1])


@each_function
def test_nothing_at_all_gives_nan(function):
    assert math.isnan(function([], np.array([], dtype=bool)))


# --- Anomaly maps. ---


def masks_of(*pictures):
    return np.array([[[c == "#" for c in row] for row in picture.split()] for picture in pictures])


def tied_maps(masks, levels=4, offset=0.0):
    rng = np.random.default_rng(masks.size + levels)
    return (rng.integers(0, levels, masks.shape) + masks + offset).astype(np.float32)


CORNERS = masks_of("#... .#.. ..#. ...#", ".... .... .... ....", "#..# .... .... ####")
LONE_PIXELS = masks_of("#.#. .... #.#. ....", ".... .... ..#. ....")
ONE_PIXEL = masks_of(".... ....", ".... .#..", ".... ....")
EVERY_IMAGE = masks_of("##.. ....", "..## ..##")
WHOLE_IMAGE = masks_of("#### ####", ".... ....")
MAPS = {
    "regions that touch at corners": (tied_maps(CORNERS), CORNERS),
    "regions of one pixel": (tied_maps(LONE_PIXELS), LONE_PIXELS),
    "one positive": (tied_maps(ONE_PIXEL), ONE_PIXEL),
    "no good image": (tied_maps(EVERY_IMAGE), EVERY_IMAGE),
    "an anomalous image without normal pixels": (tied_maps(WHOLE_IMAGE), WHOLE_IMAGE),
    "all equal": (np.full(CORNERS.shape, 3, np.float32), CORNERS),
    "positives above": (tied_maps(CORNERS) + 10 * CORNERS, CORNERS),
    "positives below": (tied_maps(CORNERS) - 10 * CORNERS, CORNERS),
    "distinct": (np.random.default_rng(0).random(CORNERS.shape, np.float32), CORNERS),
    "far from zero": (tied_maps(CORNERS, offset=2**24 - 8), CORNERS),
    "far below zero": (tied_maps(CORNERS, offset=-(2**24)), CORNERS),
    "differences that float32 has not": (1e9 + 1e-6 * tied_maps(CORNERS).astype(float), CORNERS),
    "half precision": (np.random.default_rng(1).random(CORNERS.shape).astype(np.float16), CORNERS),
    "empty masks": (tied_maps(CORNERS), np.zeros_like(CORNERS)),
    "full masks": (tied_maps(CORNERS), np.ones_like(CORNERS)),
}


def random_maps(seed):
    rng = np.random.default_rng(seed)
    n, h, w = rng.integers(1, 7, 3)
    masks = (rng.random((n, h, w)) < rng.random()) & (rng.random((n, 1, 1)) < 0.7)
    signal = rng.random() * masks
    maps = np.round(rng.random((n, h, w)) + signal, int(rng.integers(1, 6)))
    return maps.astype(np.float32), masks


map_cases = pytest.mark.parametrize(
    ("maps", "masks"),
    [pytest.param(*case, id=name) for name, case in MAPS.items()]
    + [pytest.param(*random_maps(seed), id=f"seed {seed}") for seed in range(60)],
)


@map_cases
@pytest.mark.parametrize("limit", [0.05, 0.3, 1])
def test_pixel_metrics_agree_with_plain_loops_over_all_thresholds(maps, masks, limit):
    expected = slow_pixel_metrics(maps, masks, limit)
    assert values(pixel_metrics(maps, masks, fpr_limit=limit)) == close(values(expected))


def test_the_default_limit_of_aupro_is_three_tenths():
    maps, masks = MAPS["distinct"]
    assert pixel_metrics(maps, masks).aupro == close(slow_aupro(maps, masks, 0.3))


@pytest.mark.parametrize("decimals", [1, 7])
def test_pixel_metrics_agree_with_scikit_learn(decimals):
    rng = np.random.default_rng(decimals)
    masks = np.zeros((6, 64, 64), dtype=bool)
    masks[1:4, 10:20, 30:50] = True
    maps = np.round(rng.normal(masks, 1), decimals).astype(np.float32)
    result = pixel_metrics(maps, masks)
    labels, scores = masks.ravel(), maps.ravel()
    assert result.full_pixel_auroc == close(sklearn_metrics.roc_auc_score(labels, scores))
    expected = sklearn_metrics.roc_auc_score(masks[1:4].ravel(), maps[1:4].ravel())
    assert result.anomaly_pixel_auroc == close(expected)
    assert result.average_precision == close(sklearn_metrics.average_precision_score(labels, scores))
    assert result.f1_max == close(sklearn_metrics.f1_score(labels, scores >= result.f1_threshold))


def test_pixels_and_images_are_measured_alike():
    maps, masks = MAPS["regions that touch at corners"]
    result = pixel_metrics(maps, masks)
    assert result.full_pixel_auroc == auroc(maps, masks)
    assert result.average_precision == average_precision(maps, masks)
    assert result.f1_max == f1_max(maps, masks) == f1(maps, masks, result.f1_threshold)


def test_a_small_region_counts_as_much_as_a_large_one():
    masks = masks_of("####... ####... .......", "......# ....... .......")
    maps = np.zeros(masks.shape)
    maps[1, 0, 6] = 1  # the small one is found, the large one is tied with all that is normal
    assert pixel_metrics(maps, masks, fpr_limit=1).aupro == close(0.5 + 0.5 / 2)


def test_a_perfect_map_has_perfect_metrics():
    masks = CORNERS
    result = pixel_metrics(masks.astype(np.float32), masks)
    assert values(result) == [1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8])
def test_masks_of_any_integer_type_mean_the_same(dtype):
    maps, masks = MAPS["distinct"]
    scale = 255 if dtype is np.uint8 else 1
    assert pixel_metrics(maps, masks.astype(dtype) * dtype(scale)) == pixel_metrics(maps, masks)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_maps_of_any_precision_mean_the_same(dtype):
    maps, masks = MAPS["regions that touch at corners"]
    assert pixel_metrics(maps.astype(dtype), masks) == pixel_metrics(maps, masks)


def test_maps_and_masks_are_left_as_they_were():
    maps, masks = (array.copy() for array in MAPS["distinct"])
    pixel_metrics(maps, masks)
    assert np.array_equal(maps, MAPS["distinct"][0])
    assert np.array_equal(masks, MAPS["distinct"][1])


def test_no_images_give_nan():
    result = pixel_metrics(np.empty((0, 4, 4), np.float32), np.empty((0, 4, 4), bool))
    assert all(math.isnan(value) for value in values(result))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (0, 0, 1), (1, 3, 3)], ids=["masked", "unmasked", "good"])
def test_maps_that_are_not_finite_are_refused(bad, place):
    maps, masks = tied_maps(CORNERS), CORNERS
    maps[place] = bad
    with pytest.raises(ValueError, match="maps must be finite"):
        pixel_metrics(maps, masks)


def test_maps_and_masks_of_unequal_shape_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"maps \(2, 4, 4\) and masks \(2, 4, 5\)"):
        pixel_metrics(np.zeros((2, 4, 4)), np.zeros((2, 4, 5), bool))


def test_a_single_map_without_its_first_axis_is_refused():
    with pytest.raises(ValueError, match=r"\(n, h, w\), not \(4, 4\)"):
        pixel_metrics(np.zeros((4, 4)), np.zeros((4, 4), bool))


def test_masks_that_are_fractions_are_refused():
    with pytest.raises(ValueError, match="masks must be boolean or integer, not float32"):
        pixel_metrics(np.zeros((1, 4, 4)), np.zeros((1, 4, 4), np.float32))


@pytest.mark.parametrize("limit", [0, -0.1, 1.1, math.nan])
def test_a_limit_that_is_no_rate_is_refused(limit):
    with pytest.raises(ValueError, match="fpr_limit must be in"):
        pixel_metrics(*MAPS["distinct"], fpr_limit=limit)


def test_working_memory_stays_within_its_bound():
    rng = np.random.default_rng(0)
    masks = np.zeros((16, 256, 256), dtype=bool)
    masks[1:, :16, :32] = True  # almost all normal pixels are in one of the two groups that are sorted
    maps = rng.random(masks.shape, np.float32)
    tracemalloc.start()
    pixel_metrics(maps, masks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < maps.nbytes + 180 * masks.sum()
