"""What a director asks of a site: which detector to work on, for which category, and where its images are."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from anomaly_lib.detectors import Detector
from anomaly_lib.detectors.loading import new_detector
from anomaly_lib.errors import DataError
from anomaly_lib.federated.turns import Turn


@dataclass(frozen=True)
class Task:
    """One category's detector.

    Attributes
    ----------
    category
        The category's name.
    method, parameters, transform
        What ``model.json`` says of the detector.
    batch_size
        Images at a time.
    shape
        (height, width) of the first site's first image, as the detector sees it, once it is known.
    turn
        Where the site's images are among all, once that is known.
    """

    category: str
    method: str
    parameters: Mapping[str, Any]
    transform: Mapping[str, Any]
    batch_size: int
    shape: tuple[int, int] | None = None
    turn: Turn | None = None

    @classmethod
    def of(cls, detector: Detector, category: str, batch_size: int) -> Self:
        """Return the task for a detector that is yet to be fitted."""
        return cls(category, detector.method, detector.parameters(), asdict(detector.transform), batch_size)

    def detector(self, device: str) -> Detector:
        """Return a new detector; a `ParameterError` says what of it makes no sense."""
        return new_detector(self.method, self.parameters, self.transform, device=device)

    def known(self, shape: tuple[int, int], turn: Turn) -> Self:
        """Return the task for a site, once the sites are known."""
        return replace(self, shape=shape, turn=turn)

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self) | {"turn": None if self.turn is None else list(self.turn)})

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Return what `text` did.

        Raises
        ------
        DataError
            When it is no task.
        """
        try:
            fields = json.loads(text)
            turn, shape = fields.pop("turn"), fields.pop("shape")
            return cls(
                **fields,
                shape=None if shape is None else (int(shape[0]), int(shape[1])),
                turn=None if turn is None else Turn(*map(int, turn)),
            )
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise DataError(f"the director's task cannot be read: {error}") from None
