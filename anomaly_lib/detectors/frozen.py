"""What detectors on a frozen backbone share: its weights, and their description on disk."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.base import Detector
from anomaly_lib.detectors.files import nan_to_none
from anomaly_lib.errors import ParameterError
from anomaly_lib.networks.backbone import Backbone

D = TypeVar("D")


def lasting_weights(weights: str | Path | None) -> str | None:
    """Return a file of weights as an absolute path, so that a saved model finds it from any directory."""
    return None if weights is None else "random" if weights == "random" else str(Path(weights).absolute())


def require_rate(name: str, rate: float) -> None:
    """Raise `ParameterError` when a rate is not between 0 and 1."""
    if not 0 < rate < 1:
        raise ParameterError(f"{name} is {rate}: it must be between 0 and 1")


def describe(
    detector: Detector, backbone: Backbone, names: Sequence[str], **parameters: Any
) -> dict[str, Any]:
    """Return the description of a fitted detector: its parameters are the attributes `names`, and others."""
    return {
        "method": detector.method,
        "parameters": {**{name: getattr(detector, name) for name in names}, **parameters},
        "transform": asdict(detector.transform),
        "backbone": {"origin": backbone.origin, "fingerprint": backbone.fingerprint},
        "threshold": nan_to_none(detector.threshold_),
    }


def remade(kind: Callable[..., D], description: dict[str, Any], device: str, weights: str | None) -> D:
    """Return a new detector with the parameters of a description; `weights` replaces its file."""
    parameters = {**description["parameters"], **({} if weights is None else {"weights": weights})}
    return kind(**parameters, transform=Transform(**description["transform"]), device=device)
