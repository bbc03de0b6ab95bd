"""Which images a run works on: categories of a data set, shortened or contaminated on demand."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anomaly_lib.datasets.mvtec import Category, find_categories, read_category
from anomaly_lib.datasets.own import TEST_SHARE, read_folder, read_own, read_table
from anomaly_lib.datasets.transforms import AS_IT_IS, Geometry
from anomaly_lib.errors import DataError, ParameterError, one_line

MVTEC, FOLDER, CSV = "mvtec", "folder", "csv"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataChoice:
    """Which images a run works on, and how they are brought to size.

    `name` says what is in `root`: ``mvtec``, categories in the layout of MVTec AD; ``folder``, pictures of
    good parts (see `anomaly_lib.datasets.own.read_folder`, which takes `abnormal`, `masks` and `test_share`);
    ``csv``, a table; ``package.module:Class``, whatever that reads there. No `categories` means all that are
    found; `geometry` overrides the detector's own transform; `train_share` of the training images are used.
    `contamination` is the share of the anomalous test images that are trained on as if they were good, drawn
    by `seed`; they are not tested on, in evaluations neither.
    """

    root: Path
    categories: Sequence[str] = ()
    name: str = MVTEC
    geometry: Geometry = AS_IT_IS
    batch_size: int = 8
    train_share: float = 1.0
    contamination: float = 0.0
    seed: int = 0
    abnormal: Path | None = None
    masks: Path | None = None
    test_share: float = TEST_SHARE

    def read(self) -> list[Category]:
        """Return the categories, each checked before any work begins."""
        categories = [_shortened(category, self.train_share) for category in self._read()]
        return [contaminated(category, self.contamination, self.seed) for category in categories]

    def _read(self) -> Sequence[Category]:
        if self.name == MVTEC:
            names = self.categories or find_categories(self.root)
            if not names:
                raise DataError(f"no category in {self.root}: it holds no folder with train/good")
            return [read_category(self.root, name) for name in names]
        if self.name == FOLDER:
            return [read_folder(self.root, self.abnormal, self.masks, self.test_share, self.seed)]
        if self.name == CSV:
            return [read_table(self.root, self.test_share, self.seed)]
        found = {category.name: category for category in read_own(self.name, self.root)}
        if unknown := [name for name in self.categories if name not in found]:
            raise DataError(f"no category {unknown[0]!r} in {self.name}: there are {', '.join(found)}")
        if not found:
            raise DataError(f"the data set {self.name} has no category in {self.root}")
        return [found[name] for name in self.categories] or list(found.values())

    def row_name(self, category: Category) -> str:
        """Return the name of the category's row and files: one line, whatever the folder is called."""
        return row_name(self.name, category)


def row_name(data_set: str, category: Category) -> str:
    """Return what rows and files of a category are called; only the official layout has its name before."""
    return one_line(f"{data_set}_{category.name}" if data_set == MVTEC else category.name)


def contaminated(category: Category, share: float, seed: int) -> Category:
    """Return the category with a share of its anomalous test images among those to train on instead.

    Of the same seed, a larger share contains the smaller ones.
    """
    if not 0 <= share < 1:
        raise ParameterError(f"contamination is {share}: give a share in [0, 1)")
    defects = np.flatnonzero(category.labels)
    moved = set(np.random.default_rng(seed).permutation(defects)[: round(share * len(defects))])
    if share and not moved:
        log.warning("%s has too few defects for a contamination of %g: none is moved", category.name, share)
    wrong = tuple(category.test[i].path for i in sorted(moved))
    kept = tuple(image for i, image in enumerate(category.test) if i not in moved)
    return replace(category, train=category.train + wrong, test=kept)


def _shortened(category: Category, share: float) -> Category:
    """Return the category with the first `share` of its training images, as the official code splits them."""
    if not 0 < share <= 1:
        raise ParameterError(f"train_val_split is {share}: give a share in (0, 1]")
    return replace(category, train=category.train[: max(1, int(len(category.train) * share))])
