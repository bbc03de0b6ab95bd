"""What a run did with a category, for people and files: pictures, geometry, threshold, decisions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from anomaly_lib.datasets.images import upright_size
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors import Detector, PatchCore
from anomaly_lib.detectors.files import SAVED, nan_to_none
from anomaly_lib.detectors.parameters import FINITE, RATE, Each, Interval, Optional, Record, Text, Whole
from anomaly_lib.detectors.threshold import promise
from anomaly_lib.errors import DataError, pass_on_lack_of_memory
from anomaly_lib.evaluation.predictions import Predictions
from anomaly_lib.predict import unseen_sentence_of
from anomaly_lib.reading import parse_json, read_within

OF_ONE_MODEL = ("image_size", "coreset", "threshold", "false_alarm_rate")
"""The columns of ``results.csv`` of which a mean says nothing."""

# More text than any run.json has.
_LONGEST = 2**24

# Of the pictures that do not count for the threshold, so many are named.
_NAMED = 5


# What is read again of run.json.
_DOCUMENT = Record(
    {
        "fitted_on": Optional(Whole(0)),
        "transform": SAVED["transform"],
        "least_seen": Interval(0, closed=True),
        "threshold": Optional(FINITE),
        "false_alarm_rate": RATE,
        "promise": Text(),
        "decided_by": Optional(Text()),
        "without": Each(Text()),
        "decisions": Optional(Record(dict.fromkeys(("missed", "defects", "false_alarms", "good"), Whole(0)))),
    }
)


@dataclass(frozen=True)
class Decisions:
    """What the threshold makes of the test images of known truth.

    Attributes
    ----------
    missed, defects
        Defects below the threshold, and all of them.
    false_alarms, good
        Good images that reach the threshold, and all of them.
    """

    missed: int
    defects: int
    false_alarms: int
    good: int

    @classmethod
    def of(cls, predictions: Predictions) -> "Decisions | None":
        """Return them; without a threshold, or images of known truth, there are none."""
        judged = predictions.judged
        if math.isnan(judged.threshold) or not len(judged.imagewise_gt):
            return None
        alarms, defective = judged.imagewise_pred >= judged.threshold, judged.imagewise_gt
        return cls(
            missed=int(np.count_nonzero(defective & ~alarms)),
            defects=int(np.count_nonzero(defective)),
            false_alarms=int(np.count_nonzero(~defective & alarms)),
            good=int(np.count_nonzero(~defective)),
        )

    def sentence(self) -> str:
        """Return it for a person."""
        said = []
        if self.defects:
            said.append(f"{self.missed} of {self.defects} defects missed")
        if self.good:
            said.append(f"{self.false_alarms} of {self.good} good parts called anomalous")
        return ", ".join(said)


@dataclass(frozen=True)
class Summary:
    """What was done with a category.

    Attributes
    ----------
    fitted_on
        How many pictures; ``None`` of a model that was fitted before.
    transform
        How pictures are brought to the model's size.
    least_seen
        The smallest share of a picture that the model sees.
    threshold, false_alarm_rate, promise
        The model's threshold, the rate that was asked for, and in a sentence what it promises.
    decided_by
        The training picture whose score the threshold lies just above, where it is known.
    without
        Training pictures whose scores do not count for the threshold.
    decisions
        What the threshold makes of the test images.
    """

    fitted_on: int | None
    transform: Transform
    least_seen: float
    threshold: float | None
    false_alarm_rate: float
    promise: str
    decided_by: str | None
    without: tuple[str, ...]
    decisions: Decisions | None = None

    @classmethod
    def of(
        cls,
        detector: Detector,
        train: Sequence[Path] | None,
        test: Sequence[Path] = (),
        predictions: Predictions | None = None,
    ) -> Self:
        """Summarise a fitted detector, what it was fitted on here and tested on, and what it predicted."""
        decider = detector.deciding_image
        return cls(
            fitted_on=None if train is None else len(train),
            transform=detector.transform,
            least_seen=_least_seen([*(train or ()), *test], detector.transform),
            threshold=nan_to_none(detector.threshold_),
            false_alarm_rate=detector.false_alarm_rate,
            promise=promise(detector),
            decided_by=None if train is None or decider is None else str(train[decider]),
            without=() if train is None else tuple(str(train[i]) for i in detector.outliers),
            decisions=None if predictions is None else Decisions.of(predictions),
        )

    def sentences(self) -> list[str]:
        """Return it for a person."""
        said = [] if self.fitted_on is None else [f"fitted on {self.fitted_on} pictures"]
        said.append(
            f"{self.transform}: {unseen_sentence_of(1 - self.least_seen) or 'all of a picture is seen'}"
        )
        said.append(self.promise + (f"; {self.decided_by} decides" if self.decided_by else ""))
        said += [f"not counted for the threshold: {name}" for name in self.without[:_NAMED]]
        if len(self.without) > _NAMED:
            said.append(f"not counted for the threshold: {len(self.without) - _NAMED} more")
        if self.decisions:
            said.append(self.decisions.sentence())
        return said

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        """Return what `document` returned; a `ParameterError` says what in it is anything else."""
        _DOCUMENT.require("summary", document)
        decisions = document["decisions"]
        return cls(
            **{
                **document,
                "transform": Transform(**document["transform"]),
                "without": tuple(document["without"]),
                "decisions": None if decisions is None else Decisions(**decisions),
            }
        )

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


def settings_row(detector: Detector, decisions: Decisions | None) -> dict[str, float]:
    """Return what ``results.csv`` says of a category's settings and decisions, behind its metrics."""
    return {
        "image_size": detector.transform.size,
        **({"coreset": float(detector.coreset)} if isinstance(detector, PatchCore) else {}),
        "threshold": detector.threshold_,
        "false_alarm_rate": detector.false_alarm_rate,
        "missed_defects": math.nan if decisions is None or not decisions.defects else decisions.missed,
        "false_alarms": math.nan if decisions is None or not decisions.good else decisions.false_alarms,
    }


def _least_seen(pictures: Sequence[Path], transform: Transform) -> float:
    """Return the smallest share of a picture that is seen."""
    shares = [1.0]
    if transform.crop is not None:
        for path in pictures:
            width, height = upright_size(path)
            left, top, right, bottom = transform.seen(width, height)
            shares.append((right - left) * (bottom - top) / (width * height))
    return min(shares)


def load_document(run: Path) -> Mapping[str, Any]:
    """Return run.json of a run folder.

    Raises
    ------
    DataError
        When there is none, or it is damaged.
    """
    file = run / "run.json"
    if not file.exists():
        raise DataError(f"no run.json in {run}: give the folder of a finished run")
    try:
        document = parse_json(read_within(file, _LONGEST))
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}): run it again") from None
    if not isinstance(document, dict):
        raise DataError(f"{file} is not what a run writes: run it again")
    return document


def summary_in(document: Mapping[str, Any], row_name: str, run: Path) -> Summary | None:
    """Return the summary of a category in the run.json of `run`; runs of earlier versions have none.

    Raises
    ------
    DataError
        When it is none.
    """
    try:
        if row_name not in document.get("summaries", {}):
            return None
        return Summary.of_document(document["summaries"][row_name])
    except Exception as error:  # of anybody's file
        pass_on_lack_of_memory(error)
        raise DataError(f"{run / 'run.json'} is not what a run writes ({error!r}): run it again") from None
