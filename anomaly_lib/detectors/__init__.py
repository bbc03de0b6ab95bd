"""The detectors, behind one contract."""

from anomaly_lib.detectors.base import Detector
from anomaly_lib.detectors.ensemble import Ensemble
from anomaly_lib.detectors.gaussian import Gaussian
from anomaly_lib.detectors.loading import load_detector, require_model
from anomaly_lib.detectors.patch_svdd import PatchSVDD
from anomaly_lib.detectors.patchcore import PatchCore
from anomaly_lib.detectors.sources import Images, TensorImages
from anomaly_lib.errors import NotFittedError

__all__ = [
    "Detector",
    "Ensemble",
    "Gaussian",
    "Images",
    "NotFittedError",
    "PatchCore",
    "PatchSVDD",
    "TensorImages",
    "load_detector",
    "require_model",
]
