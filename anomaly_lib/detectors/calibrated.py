"""What detectors share of their thresholds: from calibration scores, without fitting again."""

import math
from typing import ClassVar, Self

import numpy as np

from anomaly_lib.detectors.parameters import RATE
from anomaly_lib.detectors.persistence import Persistent
from anomaly_lib.detectors.threshold import calibrated_threshold
from anomaly_lib.errors import DataError
from anomaly_lib.evaluation.thresholds import upper_outliers


class Calibrated(Persistent):
    """A detector as far as its threshold goes; the attributes are those of `Detector`."""

    calibration_takes: ClassVar[str] = "two"  # normal images, at least
    false_alarm_rate: float
    robust: bool = False

    def set_false_alarm_rate(self, rate: float) -> Self:
        """Set `threshold_` anew, for another rate, from the same `calibration_`; return the detector.

        A `ParameterError` says that the rate is not between 0 and 1, a `DataError` that there are no
        calibration scores, as in models of format 1 and of the official codes, and a warning that they are
        too few for the rate, with what the threshold promises then.
        """
        self._require_fitted()
        RATE.require("false_alarm_rate", rate)
        if not len(self.calibration_):
            raise DataError("this model has no calibration scores to set a threshold from: fit it again")
        self.false_alarm_rate = rate
        return self._set_threshold()

    @property
    def outliers(self) -> np.ndarray:
        """The numbers (k,) of the training images whose scores do not count for the threshold.

        When `robust`, these are the outliers of `anomaly_lib.evaluation.thresholds.upper_outliers`: rather
        images of defects among the good ones, it is hoped, than good ones of a rare kind. What the threshold
        promises is then for images like the others.
        """
        numbers: np.ndarray = self.calibration_of_[self._outlying()]
        return numbers

    @property
    def normal_scores(self) -> np.ndarray:
        """The scores (n,) of `calibration_` that count: all but those of `outliers`."""
        scores: np.ndarray = self.calibration_[~self._outlying()]
        return scores

    @property
    def deciding_image(self) -> int | None:
        """The number of the training image whose score the threshold lies just above; ``None``: unknown."""
        below = np.where(self.calibration_ < self.threshold_, self.calibration_, -np.inf)
        if not below.size or np.isinf(below).all() or self.calibration_of_[below.argmax()] < 0:
            return None
        return int(self.calibration_of_[below.argmax()])

    def take_calibration(self, numbers: np.ndarray, scores: np.ndarray) -> Self:
        """Set `threshold_` by scores (n,) of training images with these numbers (n,), those that are finite.

        They are of the images as if the detector had not been fitted on them.
        """
        known = np.isfinite(scores)
        self.calibration_of_, self.calibration_ = numbers[known], scores[known].astype(np.float32)
        return self._set_threshold()

    def _calibrate(self, scores: np.ndarray | None) -> Self:
        """Set `calibration_` and `threshold_` to what `learn` returned."""
        known = np.zeros(0, np.int64) if scores is None else np.flatnonzero(np.isfinite(scores))
        self.calibration_of_ = known
        self.calibration_ = np.zeros(0, np.float32) if scores is None else scores[known]
        self.threshold_ = math.nan
        return self if scores is None else self._set_threshold()

    def _set_threshold(self) -> Self:
        takes = self.calibration_takes
        self.threshold_ = calibrated_threshold(self.normal_scores, self.false_alarm_rate, takes)
        return self

    def _outlying(self) -> np.ndarray:
        return upper_outliers(self.calibration_) & self.robust
