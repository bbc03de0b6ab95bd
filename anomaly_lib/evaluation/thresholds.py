"""Every way to get from scores to decisions: `score >= threshold` is anomalous, here and in `metrics`."""

import math
import warnings
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm

from anomaly_lib.evaluation.metrics import rank

# Of fewer scores nobody can tell which are far from the others.
_FEWEST_OF_A_KIND = 10


Verdict = Literal["good", "anomalous", "no threshold"]


def verdict(score: float, threshold: float) -> Verdict:
    """Return what is said of an image: "anomalous" where its score reaches the threshold, else "good".

    Without a threshold, nan, it is "no threshold", whatever the score.
    """
    if math.isnan(threshold):
        return "no threshold"
    return "anomalous" if score >= threshold else "good"


def f1_optimal_threshold(scores: ArrayLike, labels: ArrayLike) -> float:
    """Find the score that, as a threshold, gives the highest F1: the highest of several.

    Scores and labels are of one shape, images (n,) or pixels (n, h, w). It is nan without positives. Taken
    on a test set it is an oracle: a bound on what a threshold can reach there, not one to deploy.

    Raises
    ------
    ValueError
        When the shapes differ, a score is not finite, or the labels are neither boolean nor integer.

    Examples
    --------
    >>> f1_optimal_threshold([0.1, 0.4, 0.3, 0.8], [0, 0, 1, 1])
    0.3
    """
    return rank(scores, labels).f1_threshold


def chi_square_threshold(dimensions: int, sigma: float) -> float:
    """Mahalanobis distance that a Gaussian of so many dimensions stays below, as surely as `sigma` in one.

    The squared distance is chi-square distributed, if the features are Gaussian and their mean and covariance
    are known. At 1 to 8 sigma the probability is 0.683, 0.954, 0.997, ...

    References
    ----------
    Rippel, Mertens, Merhof, Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly
    Detection, ICPR 2020, section III-C.

    Examples
    --------
    >>> round(chi_square_threshold(1, 3), 6)
    3.0
    """
    # The upper tail keeps its digits where the probability rounds to 1, from 8 sigma on.
    return float(np.sqrt(chi2.isf(2 * norm.sf(sigma), dimensions)))


def conformal_threshold(normal_scores: ArrayLike, false_alarm_rate: float = 0.01) -> float:
    """Threshold that at most this share of normal images will reach, from scores of normal images alone.

    The scores (n,) are of images that the model was not fitted on: leave-one-out or held out. The threshold
    is the next float32 above the ceil((n + 1) (1 - rate))-th smallest of them. Over the draw of these
    and of one more exchangeable normal image, that image is at or above it with probability at most the rate.
    Below 1 / rate - 1 images no threshold can promise that; the one above the largest score is returned.
    Leave-one-out distances to nearest neighbours keep the promise too: with one image fewer to be near to,
    they can only be larger.

    Warns
    -----
    UserWarning
        When there are too few images for the rate.

    Raises
    ------
    ValueError
        When the scores are not (n,), empty or not finite, or the rate is not in (0, 1).

    References
    ----------
    Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005; Lei et al., Distribution-Free
    Predictive Inference for Regression, JASA 2018.

    Examples
    --------
    >>> conformal_threshold(range(1, 100), false_alarm_rate=0.1)  # just above the 90th of 99
    90.00000762939453
    """
    # The scores of detectors are float32: a threshold of more digits would be rounded down onto a score.
    scores = np.asarray(normal_scores, dtype=np.float32)
    if scores.ndim != 1 or not scores.size:
        raise ValueError(f"normal_scores must be of shape (n,) with n >= 1, not {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("normal_scores must be finite, but some are NaN or infinite")
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate must be in (0, 1), not {false_alarm_rate}")
    # The decimal number that was meant: in binary, ceil(10 * (1 - 0.7)) is 4.
    rate = Fraction(str(float(false_alarm_rate)))
    place = math.ceil((scores.size + 1) * (1 - rate))
    if place > scores.size:
        place = scores.size
        warnings.warn(
            f"{scores.size} normal images are too few for a false-alarm rate of {float(rate):.3g}, which "
            f"needs {math.ceil(1 / rate) - 1}: the threshold lies above the largest of their scores, which "
            f"promises 1 / {scores.size + 1} = {1 / (scores.size + 1):.3g}.",
            UserWarning,
            stacklevel=2,
        )
    return float(np.nextafter(np.sort(scores)[place - 1], np.float32(np.inf)))


def upper_outliers(scores: ArrayLike) -> NDArray[np.bool_]:
    """Return which of the scores (n,) lie far above the others: a bool mask (n,).

    An outlier has a modified z-score above 3.5, the distance from the median in units of the median absolute
    deviation as it would be of a normal distribution. It is taken of the scores' logarithms where all are
    positive, since distances have a long upper tail. Of fewer than ten scores none is an outlier.

    References
    ----------
    Iglewicz, Hoaglin, How to Detect and Handle Outliers, ASQC 1993.

    Examples
    --------
    >>> upper_outliers([9.0, 10.0, 11.0, 9.5, 10.5, 10.2, 9.8, 11.1, 9.1, 60.0]).nonzero()[0]
    array([9])
    """
    values = np.asarray(scores, np.float64)
    if len(values) < _FEWEST_OF_A_KIND:
        return np.zeros(len(values), dtype=bool)
    values = np.log(values) if values.min() > 0 else values
    distance = values - np.median(values)
    deviation = np.median(np.abs(distance))
    outlying: NDArray[np.bool_] = (distance * 0.6745 > 3.5 * deviation) & (deviation > 0)
    return outlying


def conformal_p_values(scores: ArrayLike, normal_scores: ArrayLike) -> NDArray[np.float64]:
    """Return for each of the scores (n,) how likely a good image is to score as high.

    It is (1 + the number of `normal_scores` (m,), of images that the model was not fitted on, that are at
    least as high) / (m + 1). Of a good image that is exchangeable with those, it is at most u with
    probability at most u, so that "good" at p above the false-alarm rate keeps that rate. The lowest possible
    is 1 / (m + 1). Without normal scores it is nan.

    References
    ----------
    Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005.

    Examples
    --------
    >>> conformal_p_values([0.5, 2.5, 9.0], [1.0, 2.0, 3.0])
    array([1.  , 0.5 , 0.25])
    """
    asked, normal = np.asarray(scores, np.float32), np.sort(np.asarray(normal_scores, np.float32))
    if not normal.size:
        return np.full(asked.shape, np.nan)
    at_least = normal.size - np.searchsorted(normal, asked, side="left")
    return (1 + at_least) / (normal.size + 1)
