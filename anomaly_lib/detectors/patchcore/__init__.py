"""PatchCore: memory bank, detector."""

from anomaly_lib.detectors.patchcore.detector import PatchCore

__all__ = ["PatchCore"]
