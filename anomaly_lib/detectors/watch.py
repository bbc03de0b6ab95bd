"""Who is told of the epochs of a detector that trains in epochs."""

from collections.abc import Mapping
from typing import Any, Protocol


class Watch(Protocol):
    """Told of every epoch by a detector that trains in epochs."""

    def __call__(self, epoch: int, losses: Mapping[str, float], detector: Any) -> Mapping[str, float]:
        """Take note of an epoch's mean losses by name, and, when it is time for a look, of the detector.

        `detector` is a `Detector` or None. What the look measures is returned, to be kept with the losses.
        """


def unwatched(epoch: int, losses: Mapping[str, float], detector: Any) -> Mapping[str, float]:
    """Take no note."""
    return {}
