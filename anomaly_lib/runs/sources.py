"""Where a run has its detectors from: new ones, or saved ones."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anomaly_lib.datasets import Category
from anomaly_lib.datasets.transforms import Geometry
from anomaly_lib.detectors import Detector, load_detector, require_model

log = logging.getLogger(__name__)

MakeDetector = Callable[[Category, Geometry], Detector]
"""Makes a new detector for a category, in its own geometry but for what is asked."""


class DetectorSource(Protocol):
    """Where a run has the detector of a category from."""

    def require(self, category: Category, geometry: Geometry) -> None:
        """Raise an `AnomalyError` where there is none, or none in this geometry; before any work."""

    def detector(self, category: Category, geometry: Geometry) -> Detector:
        """Return the detector, in its own geometry but for what is asked."""


@dataclass(frozen=True)
class NewDetector:
    """Detectors that are yet to be fitted."""

    make: MakeDetector

    def require(self, category: Category, geometry: Geometry) -> None:
        """Raise where a hyper-parameter makes no sense: a constructor does nothing else."""
        self.make(category, geometry)

    def detector(self, category: Category, geometry: Geometry) -> Detector:
        """Return a new detector."""
        return self.make(category, geometry)


@dataclass(frozen=True)
class SavedDetector:
    """The detector in a folder; see `anomaly_lib.load_detector`."""

    folder: Path
    device: str = "auto"
    weights: str | None = None

    def require(self, category: Category, geometry: Geometry) -> None:
        """Raise where the folder holds no model, or one that has to keep its own geometry."""
        require_model(self.folder, geometry)

    def detector(self, category: Category, geometry: Geometry) -> Detector:
        """Return the saved detector."""
        saved = load_detector(self.folder, device=self.device, weights=self.weights)
        fitted, asked = saved.transform, saved.transform.asked(geometry, saved.transform.multiple)
        if asked != fitted:
            log.warning("the model of %s was fitted at %s, and this is %s", category.name, fitted, asked)
        return saved.with_transform(asked)
