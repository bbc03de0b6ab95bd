"""Two models side by side: what they were made of, and which pictures they judge differently."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_lib.detectors import Detector, load_detector
from anomaly_lib.errors import DataError
from anomaly_lib.predict import Answer, answers
from anomaly_lib.progress import Progress, silent

# Of these a difference leaves the scores in one unit.
_SAME_UNIT = {"false_alarm_rate", "robust"}


@dataclass(frozen=True)
class Comparison:
    """What differs between a model and another one.

    Attributes
    ----------
    differences
        In sentences: settings, and what was learned.
    judged_differently
        The pictures that have another label now: file, and what was and is said of it.
    unreadable
        The pictures that cannot be read, and why.
    pictures
        How many there were.
    """

    differences: list[str]
    judged_differently: list[tuple[Path, Answer, Answer]]
    unreadable: dict[Path, DataError]
    pictures: int

    def sentences(self) -> list[str]:
        """Return it for a person."""
        said = self.differences or ["the models are the same"]
        for path, before, after in self.judged_differently:
            said.append(f"{path}: {_verdict(before)}, now {_verdict(after)}")
        said += [f"{path}: {error}" for path, error in self.unreadable.items()]
        if self.pictures:
            read = self.pictures - len(self.unreadable)
            said.append(f"{len(self.judged_differently)} of {read} pictures are judged differently")
        return said


def compare_models(
    before: Path,
    after: Path,
    pictures: Sequence[Path] = (),
    *,
    device: str = "auto",
    weights: str | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compare the models in two folders, and what they say of some pictures.

    Raises
    ------
    AnomalyError
        When there is no model, or it is damaged.
    """
    old, new = (load_detector(folder, device=device, weights=weights) for folder in (before, after))
    changed, unreadable = [], {}
    pairs = zip(pictures, answers(old, pictures), answers(new, pictures), strict=True)
    for number, (path, then, now) in enumerate(pairs, start=1):
        progress("pictures", number, len(pictures))
        if isinstance(then, DataError):
            unreadable[path] = then
        elif isinstance(now, DataError):
            unreadable[path] = now
        elif then.label != now.label:
            changed.append((path, then, now))
    return Comparison(list(_differences(old, new)), changed, unreadable, len(pictures))


def _verdict(answer: Answer) -> str:
    number = answer.score if math.isnan(answer.share_of_threshold) else answer.share_of_threshold
    return f"{answer.label} ({number:.2f})"


def _differences(old: Detector, new: Detector) -> Iterator[str]:
    """Yield what differs, in sentences."""
    if old.method != new.method:
        yield f"method: {old.method}, now {new.method}"
        return
    then, now = _settings(old), _settings(new)
    differing = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    for name in differing:
        yield f"{name}: {then.get(name, 'none')}, now {now.get(name, 'none')}"
    if old.images_ != new.images_:
        yield f"learned from {old.images_ or 'an unknown number of'} pictures, now from {new.images_}"
    elif not differing and not _learned_the_same(old, new):
        yield f"learned from other pictures, again {new.images_}"
    if set(differing) <= _SAME_UNIT and old.threshold_ > 0 and new.threshold_ != old.threshold_:
        yield f"the threshold is {new.threshold_ / old.threshold_:.3g} times what it was"


def _settings(detector: Detector) -> dict[str, str]:
    """Return the settings as they are saved, by name."""
    settings: dict[str, Any] = {**detector.parameters(), "pictures": str(detector.transform)}
    return {
        name: value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in settings.items()
    }


def _learned_the_same(old: Detector, new: Detector) -> bool:
    return np.array_equal(old.calibration_, new.calibration_)
