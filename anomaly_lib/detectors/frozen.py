"""What detectors on a frozen backbone share: one generator of features, and the weights in a model file."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.base import Detector
from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.parameters import FLAG, RATE, SEED, Choice, Constraint, Optional, Record, Text
from anomaly_lib.detectors.sources import Images, checked_batches
from anomaly_lib.kernels.augment import Change
from anomaly_lib.networks.backbone import Backbone
from anomaly_lib.networks.devices import Precision
from anomaly_lib.networks.names import native_size
from anomaly_lib.progress import Progress, silent, track

FROZEN_CONSTRAINTS: Mapping[str, Constraint] = {
    "backbone": Text(),
    "weights": Optional(Text()),
    "false_alarm_rate": RATE,
    "robust": FLAG,
    "seed": SEED,
    "precision": Choice.of(Precision),
}


class Features(NamedTuple):
    """What a backbone says of a batch of images.

    Attributes
    ----------
    maps
        The feature map (n, channels, h, w) of each layer.
    size
        Height and width of the images, in pixels.
    """

    maps: list[torch.Tensor]
    size: tuple[int, int]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.maps[0])


@dataclass(frozen=True)
class FeatureKey:
    """All that the features of an image file depend on, beside the file."""

    backbone: str
    fingerprint: str
    layers: tuple[str, ...]
    transform: Transform
    precision: Precision
    official_batch_norm: bool


class FrozenDetector(Detector):
    """A detector that learns from the features of a pretrained network.

    Attributes
    ----------
    backbone, weights, precision
        Name, weights and arithmetic of the network; see `anomaly_lib.networks.backbone.Backbone`.
    """

    saved: ClassVar[Mapping[str, Constraint]] = {
        **Detector.saved,
        "backbone": Record({"origin": Text(), "fingerprint": Text()}),
    }
    backbone: str
    weights: str | None
    precision: Precision
    official_batch_norm: bool = False
    _network: Backbone

    @abstractmethod
    def backbone_layers(self) -> Sequence[str]:
        """Return the layers whose features are wanted; empty: the backbone's default ones."""

    @property
    def network(self) -> Backbone:
        """The backbone, loaded when it is first needed."""
        if not hasattr(self, "_network"):
            self._network = self._load_network()
        return self._network

    @property
    def feature_key(self) -> FeatureKey:
        """What the features depend on: two detectors with the same key see the same features."""
        return FeatureKey(
            self.backbone,
            self.network.fingerprint,
            self.network.layers,
            self.transform,
            self.precision,
            self.official_batch_norm,
        )

    def features(
        self,
        images: Images | torch.Tensor,
        progress: Progress = silent,
        change: Change | None = None,
    ) -> Iterator[Features]:
        """Yield the features of images, batch by batch; of images brought through `change` if it is given."""
        for batch in track(checked_batches(images), "features", len(images), progress):
            yield self.features_of_batch(batch if change is None else change(batch))

    def features_of_batch(self, images: torch.Tensor) -> Features:
        """Return the features of images (n, 3, h, w)."""
        return Features(self.network(images), (images.shape[2], images.shape[3]))

    def description(self) -> dict[str, Any]:
        """Return what ``model.json`` says; the backbone's weights are named, not copied."""
        network = {"origin": self.network.origin, "fingerprint": self.network.fingerprint}
        return super().description() | {"backbone": network}

    def restore(self, tensors: SavedTensors, description: Mapping[str, Any], folder: Path) -> None:
        """Take over what was learned, if it was learned on the weights that are found here."""
        self.network.require_same(description["backbone"], folder)
        self.restore_tensors(tensors)

    def maps_of_nothing(self) -> list[torch.Tensor]:
        """Return the feature maps (1, channels, h, w) of a black image, of the network's size at most."""
        side = min(self.transform.size, native_size(self.backbone))
        return self.network(torch.zeros(1, 3, side, side))

    @abstractmethod
    def restore_tensors(self, tensors: SavedTensors) -> None:
        """Take over what `tensors` returned."""

    def _forget(self) -> None:
        super()._forget()
        vars(self).pop("_network", None)  # what is done to it depends on hyper-parameters, which may be new

    def _load_network(self) -> Backbone:
        network = Backbone(
            self.backbone,
            self.backbone_layers(),
            weights=self.weights,
            device=self.device,
            precision=self.precision,
        )
        if self.official_batch_norm:
            network.shift_batch_norm(self.transform.size)
        return network


def lasting_weights(weights: str | Path | None) -> str | None:
    """Return a file of weights as an absolute path, so that a saved model finds it from any directory."""
    return None if weights is None else "random" if weights == "random" else str(Path(weights).absolute())
