"""Thresholds against plain loops, and the promise of the conformal one by simulation."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest

from anomaly_lib.evaluation.metrics import f1, f1_max
from anomaly_lib.evaluation.thresholds import conformal_threshold, f1_optimal_threshold


def slow_f1_optimal_threshold(scores, labels):
    best, best_threshold = -1.0, math.nan
    for threshold in sorted(set(scores), reverse=True):
        found = [score >= threshold for score in scores]
        hits = sum(f and bool(label) for f, label in zip(found, labels, strict=True))
        value = 2 * hits / (sum(found) + sum(labels))
        if value > best:
            best, best_threshold = value, threshold
    return best_threshold


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 3),
        ([4, 3, 2, 1], [0, 0, 1, 1], 1),
        ([7, 7, 7], [0, 1, 0], 7),
        ([5, 4, 3, 2], [1, 0, 0, 1], 5),  # F1 is 2/3 at 5 and at 2
        ([-3, -1, -2], [0, 1, 0], -1),
        ([1, 2, 3], [1, 1, 1], 1),
    ],
)
def test_the_f1_optimal_threshold_is_the_highest_of_the_best(scores, labels, expected):
    assert f1_optimal_threshold(scores, labels) == expected == slow_f1_optimal_threshold(scores, labels)


@pytest.mark.parametrize("seed", range(60))
def test_the_f1_optimal_threshold_agrees_with_trying_every_score(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    scores = rng.integers(0, rng.integers(1, 30), n).tolist()
    labels = [1, *(rng.random(n - 1) < rng.random()).astype(int).tolist()]
    assert f1_optimal_threshold(scores, labels) == slow_f1_optimal_threshold(scores, labels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_f1_optimal_threshold_reaches_the_best_f1_in_every_precision(dtype):
    rng = np.random.default_rng(0)
    labels = rng.random((5, 20, 20)) < 0.1
    scores = rng.normal(labels).astype(dtype)
    threshold = f1_optimal_threshold(scores, labels)
    assert f1(scores, labels, threshold) == f1_max(scores, labels)
    found = scores >= threshold  # as any caller would decide, with the rounding of a Python float
    assert 2 * (found & labels).sum() / (found.sum() + labels.sum()) == f1_max(scores, labels)


def test_without_positives_there_is_no_f1_optimal_threshold():
    assert math.isnan(f1_optimal_threshold([1, 2, 3], [0, 0, 0]))


def test_the_f1_optimal_threshold_refuses_scores_that_are_not_finite():
    with pytest.raises(ValueError, match="scores must be finite"):
        f1_optimal_threshold([1, math.nan], [0, 1])


def slow_place(n, rate):
    """Smallest place among n sorted scores that a further one exceeds in at most this rate of cases."""
    for k in range(1, n + 1):
        if Fraction(n + 1 - k, n + 1) <= Fraction(rate):
            return k
    return None


@pytest.mark.parametrize("rate", ["0.01", "0.05", "0.1", "0.29", "0.3", "0.5", "0.7", "0.9", "0.999"])
def test_the_conformal_threshold_lies_just_above_the_right_order_statistic(rate):
    rng = np.random.default_rng(0)
    for n in range(1, 131):
        place = slow_place(n, rate)
        if place is None:
            continue
        scores = rng.permutation(n).astype(np.float32) + 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            threshold = conformal_threshold(scores, float(rate))
        assert (scores < threshold).sum() == place
        assert threshold == np.nextafter(np.float32(place), np.float32(np.inf))


def test_the_default_false_alarm_rate_is_one_per_cent():
    scores = np.random.default_rng(0).normal(size=500)
    assert (
        conformal_threshold(scores) == conformal_threshold(scores, 0.01) != conformal_threshold(scores, 0.02)
    )


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
def test_a_further_normal_image_raises_an_alarm_at_most_as_often_as_promised(tied):
    # All n + 1 choices of the further one are equally likely: averaged over them, the promise is exact.
    rng = np.random.default_rng(1)
    for n, rate in [(9, 0.1), (19, 0.1), (24, 0.3), (60, 0.05), (99, 0.01)]:
        scores = rng.normal(size=n + 1).astype(np.float32)
        scores = np.round(scores) if tied else scores
        alarms = [scores[i] >= conformal_threshold(np.delete(scores, i), rate) for i in range(n + 1)]
        assert np.mean(alarms) <= rate
        if not tied:
            assert np.mean(alarms) == pytest.approx(math.floor(round((n + 1) * rate, 9)) / (n + 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 1e6, -1e6, 1e-30])
def test_the_score_that_sets_the_conformal_threshold_is_itself_normal(dtype, offset):
    scores = (np.arange(1, 100) + offset).astype(dtype)
    threshold = conformal_threshold(scores, 0.1)
    assert (scores >= threshold).sum() == 9
    assert (scores.astype(np.float32) >= threshold).sum() == 9
    assert (scores >= np.float64(threshold)).sum() == 9


def test_too_few_images_are_warned_of_and_take_the_largest_score():
    with pytest.warns(
        UserWarning, match=r"^12 normal images .* 0\.01, .* needs 99: .* 1 / 13 = 0\.0769"
    ) as seen:
        threshold = conformal_threshold(np.arange(12), 0.01)
    assert threshold == np.nextafter(np.float32(11), np.float32(np.inf))
    assert seen[0].filename == __file__


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.1, 9), (0.3, 3), (0.5, 1), (0.001, 999)])
def test_the_number_of_images_that_the_warning_asks_for_is_the_smallest_that_suffices(rate, needed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conformal_threshold(np.arange(needed), rate)
        if needed > 1:
            with pytest.raises(UserWarning, match=f"needs {needed}:"):
                conformal_threshold(np.arange(needed - 1), rate)


@pytest.mark.parametrize("scores", [[], [[1.0, 2.0]], 3.0])
def test_normal_scores_that_are_no_list_of_images_are_refused(scores):
    with pytest.raises(ValueError, match=r"normal_scores must be of shape \(n,\)"):
        conformal_threshold(scores)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_normal_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="normal_scores must be finite"):
        conformal_threshold([1.0, bad])


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, math.nan])
def test_a_false_alarm_rate_that_is_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match="false_alarm_rate must be in"):
        conformal_threshold([1.0, 2.0], rate)
