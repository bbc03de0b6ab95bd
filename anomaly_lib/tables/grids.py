"""What the tables of Gaussian-AD vary, and what part of it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anomaly_lib.datasets.safe_augmentations import safe_augmentations
from anomaly_lib.detectors.gaussian.level_models import Distance, Reduction
from anomaly_lib.detectors.gaussian.level_statistics import FOLDS
from anomaly_lib.errors import ParameterError
from anomaly_lib.kernels.augment import require_augmentations


@dataclass(frozen=True)
class Setting:
    """One column of a table."""

    arch: str
    distance: Distance = "mahalanobis"
    reduction: Reduction = "none"
    variance_threshold: float | None = None

    @property
    def title(self) -> str:
        """The column's name."""
        words = [self.arch]
        if self.distance != "mahalanobis":
            words.append(self.distance)
        if self.variance_threshold is not None:
            words.append(f"{self.reduction} {self.variance_threshold:g}")
        return " ".join(words)

    @property
    def key(self) -> tuple[str, ...]:
        """What tells the setting from others in a file."""
        share = "" if self.variance_threshold is None else f"{self.variance_threshold:g}"
        return self.arch, self.distance, self.reduction, share


@dataclass(frozen=True)
class Table:
    """The grid of a table; `levels` empty means all, `sigmas` asks for rates at these many sigma."""

    settings: tuple[Setting, ...]
    levels: tuple[int, ...] = ()
    augment: bool = False
    sigmas: tuple[int, ...] = ()


_B0, _B4 = "efficientnet-b0", "efficientnet-b4"

TABLES = {
    1: Table((Setting(_B4, "l2"), Setting(_B4, "sed"), Setting(_B4))),
    2: Table(tuple(Setting(f"efficientnet-b{number}") for number in range(8))),
    3: Table(
        (
            *(Setting(_B4, reduction="pca", variance_threshold=share) for share in (0.99, 0.95)),
            *(Setting(_B4, reduction="npca", variance_threshold=share) for share in (0.99, 0.999, 0.9999)),
        )
    ),
    4: Table(
        (
            Setting(_B0, reduction="pca", variance_threshold=0.99),
            Setting(_B0),
            Setting(_B0, reduction="npca", variance_threshold=0.99),
            Setting(_B4),
        ),
        levels=(6,),
        augment=True,
        sigmas=(1, 2, 3, 4, 5),
    ),
    7: Table(tuple(Setting(f"resnet{layers}") for layers in (18, 34, 50))),
}

# Mean AUROC over MVTec AD in per cent, of levels 0 to 8 and their sum (tables I and II of the paper).
PAPER = {
    "efficientnet-b0": (56.8, 62.3, 68.4, 73.8, 79.1, 86.1, 92.5, 92.2, 91.3, 90.6),
    "efficientnet-b1": (56.7, 58.2, 67.8, 73.6, 81.0, 87.1, 95.3, 94.7, 93.4, 93.3),
    "efficientnet-b2": (59.9, 59.5, 68.4, 75.2, 82.7, 89.1, 95.5, 94.7, 93.1, 93.6),
    "efficientnet-b3": (60.1, 62.0, 70.1, 73.5, 82.1, 91.2, 96.4, 94.8, 92.8, 94.0),
    "efficientnet-b4": (60.3, 62.0, 71.1, 75.6, 82.1, 89.1, 96.7, 95.5, 93.1, 94.8),
    "efficientnet-b5": (61.5, 63.7, 69.5, 76.5, 83.9, 89.0, 96.9, 96.2, 93.0, 95.2),
    "efficientnet-b6": (61.3, 63.2, 70.6, 75.1, 81.7, 88.1, 96.7, 95.7, 93.4, 95.3),
    "efficientnet-b7": (60.4, 61.6, 71.2, 76.8, 82.4, 87.5, 96.3, 95.7, 92.2, 94.2),
}


@dataclass(frozen=True)
class TableChoice:
    """On what and how a table is run.

    `categories` empty means all; `archs` that the table has narrow it, others take the place of its own.
    `augment` is the table's own where it is ``None``; `augmentations`, where there are any, are for all
    categories, in place of those known for each of MVTec AD.
    """

    root: Path
    categories: Sequence[str] = ()
    folds: Sequence[int] = tuple(range(FOLDS))
    archs: Sequence[str] = ()
    augment: bool | None = None
    augmentations: Sequence[str] = ()
    augment_passes: int = 100
    imagesize: int | None = None
    batch_size: int = 16
    seed: int = 0
    device: str = "auto"


def narrowed(table: Table, choice: TableChoice) -> Table:
    """Return the table for the architectures chosen: its own settings of each, or all kinds for a new one.

    Raises
    ------
    ParameterError
        When a fold or an augmentation is unknown.
    """
    if unknown := [fold for fold in choice.folds if not 0 <= fold < FOLDS]:
        raise ParameterError(f"fold {unknown[0]}: use 0 to {FOLDS - 1}")
    require_augmentations(choice.augmentations)
    augment = table.augment if choice.augment is None else choice.augment
    if not choice.archs:
        return replace(table, augment=augment)
    settings_of = {arch: [s for s in table.settings if s.arch == arch] for arch in choice.archs}
    settings = [
        setting
        for arch in dict.fromkeys(choice.archs)
        for setting in settings_of[arch] or dict.fromkeys(replace(s, arch=arch) for s in table.settings)
    ]
    return replace(table, augment=augment, settings=tuple(settings))


def augmentations_of(category: str, table: Table, choice: TableChoice) -> Sequence[str]:
    """Return the augmentations for a category: those chosen, else the authors' for MVTec AD."""
    if not table.augment:
        return ()
    return tuple(choice.augmentations) or safe_augmentations([category])
