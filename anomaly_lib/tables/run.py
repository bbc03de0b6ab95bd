"""Run a table: each setting on each category and fold.

Each run is a row of ``tableN_runs.csv``, which is written after every category. ``tableN.csv`` has the
summary.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_lib.datasets import Category, find_categories, read_category
from anomaly_lib.detectors import Gaussian
from anomaly_lib.detectors.gaussian.level_models import fit_pooled
from anomaly_lib.detectors.gaussian.level_statistics import LevelStatistics, folds_of
from anomaly_lib.detectors.gaussian.levels import official_transform
from anomaly_lib.errors import DataError, WeightsError
from anomaly_lib.evaluation import metrics
from anomaly_lib.evaluation.thresholds import chi_square_threshold
from anomaly_lib.files import new_file
from anomaly_lib.kernels.augment import augmentation_of
from anomaly_lib.progress import Progress, silent
from anomaly_lib.tables.grids import TABLES, Setting, Table, TableChoice, augmentations_of, narrowed
from anomaly_lib.tables.run_file import KEY, RunFile
from anomaly_lib.tables.summary import summary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableResult:
    """A finished table: numbers in per cent, and the architectures left out for want of weights."""

    numbers: pd.DataFrame
    skipped: tuple[str, ...]


def run_table(number: int, folder: Path, choice: TableChoice, progress: Progress = silent) -> TableResult:
    """Run what is not in `folder` yet of a table, write it there, and return the table.

    Raises
    ------
    AnomalyError
        When the data or a choice is wrong, or no architecture of the table has weights.
    """
    table = narrowed(TABLES[number], choice)
    categories = _read(table, choice)
    archs = list(dict.fromkeys(setting.arch for setting in table.settings))
    detectors = {arch: _detector(arch, table, choice) for arch in archs}
    runs = RunFile(folder / f"table{number}_runs.csv", _options_of(table, choice))
    skipped: list[WeightsError] = []
    for arch, detector in detectors.items():
        settings = [setting for setting in table.settings if setting.arch == arch]
        try:
            for category in categories:
                pairs = [(s, fold) for s in settings for fold in choice.folds]
                missing = [one for one in pairs if not runs.has(*one, category.name)]
                if missing:
                    runs.add(_measure(detector, category, table, choice, missing, progress))
        except WeightsError as error:
            log.warning("%s is left out: %s", arch, str(error).partition(";")[0])
            skipped.append(error)
    if len(skipped) == len(archs):
        raise WeightsError(f"{str(skipped[0]).partition(';')[0]}; name architectures whose weights are here")
    names = [category.name for category in categories]
    numbers = summary(runs.frame, table, names, choice.folds, choice.imagesize)
    with new_file(folder / f"table{number}.csv") as file:
        numbers.to_csv(file)
    return TableResult(numbers, tuple(arch for arch in archs if not runs.has_any(arch)))


def _read(table: Table, choice: TableChoice) -> list[Category]:
    """Return the categories, each checked before any work begins."""
    names = choice.categories or find_categories(choice.root)
    if not names:
        raise DataError(f"no category in {choice.root}: it holds no folder with train/good")
    categories = [read_category(choice.root, name) for name in names]
    for category in categories:
        if not 0 < category.labels.sum() < len(category.labels):
            raise DataError(f"{category.name} has no good or no defective test images: leave it out with -d")
        augmentations_of(category.name, table, choice)
    return categories


def _options_of(table: Table, choice: TableChoice) -> dict[str, Any]:
    """Return what must be the same in all runs of a file."""
    options: dict[str, Any] = {"data": str(choice.root.resolve()), "imagesize": choice.imagesize}
    options |= {
        "augment": table.augment,
        "augmentations": list(choice.augmentations) if table.augment else [],
    }
    return options | {"augment_passes": choice.augment_passes if table.augment else 0, "seed": choice.seed}


def _detector(arch: str, table: Table, choice: TableChoice) -> Gaussian:
    return Gaussian(
        arch,
        table.levels,
        fold=None,
        transform=official_transform(arch).override(None, choice.imagesize),
        seed=choice.seed,
        device=choice.device,
        precision="fp32",
    )


def _measure(
    detector: Gaussian,
    category: Category,
    table: Table,
    choice: TableChoice,
    missing: Sequence[tuple[Setting, int]],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Return a row for each missing run of a category; the network sees every image once for all of them."""

    def told(stage: str, done: int, total: int) -> None:
        progress(f"{detector.backbone}, {category.name}: {stage}", done, total)

    train = category.train_images(detector.transform, choice.batch_size)
    kinds = augmentations_of(category.name, table, choice)
    passes = choice.augment_passes if kinds else 1
    change = augmentation_of(kinds, torch.Generator().manual_seed(choice.seed)) if kinds else None
    by_pass = [detector.pooled_features(train, told, change) for _ in range(passes)]
    train_features = [torch.cat(level) for level in zip(*by_pass, strict=True)]
    test = category.test_images(detector.transform, choice.batch_size)
    test_features = detector.pooled_features(test, told)
    folds = np.tile(folds_of(len(category.train), None), passes)
    rows = []
    for setting, fold in missing:
        fitted = torch.from_numpy(folds != fold)
        statistics = [LevelStatistics.of_rows(level[fitted]) for level in train_features]
        row = dict(zip(KEY, (*setting.key, category.name, str(fold)), strict=True))
        rows.append(
            row | dict(_scores(setting, statistics, test_features, category.labels, detector.levels, table))
        )
    return rows


def _scores(
    setting: Setting,
    statistics: Sequence[LevelStatistics],
    test_features: Sequence[torch.Tensor],
    labels: np.ndarray,
    levels: Sequence[int],
    table: Table,
) -> Iterator[tuple[str, float]]:
    """Yield the AUROC of each level and of their sum, and the rates at sigmas where the table has them."""
    distances = []
    for level, of_level, rows in zip(levels, statistics, test_features, strict=True):
        model = fit_pooled(of_level, setting.distance, setting.reduction, setting.variance_threshold or 0.0)
        distances.append(model(rows).numpy())
        yield f"level_{level}", metrics.auroc(distances[-1], labels)
        for sigma in table.sigmas:
            alarms = distances[-1] >= chi_square_threshold(model.dimensions, sigma)
            yield f"fpr_{sigma}", float(alarms[~labels].mean())
            yield f"tpr_{sigma}", float(alarms[labels].mean())
    yield "sum", metrics.auroc(np.mean(distances, axis=0), labels)
