"""Gaussian: statistics, models, detector."""

from anomaly_lib.detectors.gaussian.detector import Gaussian

__all__ = ["Gaussian"]
