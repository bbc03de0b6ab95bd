"""Patch SVDD: network, training, detector."""

from anomaly_lib.detectors.patch_svdd.detector import PatchSVDD

__all__ = ["PatchSVDD"]
