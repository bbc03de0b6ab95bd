"""Which images a run works on: categories of a data set, shortened or contaminated on demand."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anomaly_lib.datasets.mvtec import Category, find_categories, read_category
from anomaly_lib.datasets.transforms import AS_IT_IS, Geometry
from anomaly_lib.errors import DataError, ParameterError, one_line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataChoice:
    """Which images a run works on, and how they are brought to size.

    `name` is the prefix of rows and files; no `categories` means all that are found; `geometry` overrides the
    detector's own transform; `train_share` of the training images are used. `contamination` is the share of
    the anomalous test images that are trained on as if they were good, drawn by `seed`; they are not tested
    on, in evaluations neither.
    """

    root: Path
    categories: Sequence[str] = ()
    name: str = "mvtec"
    geometry: Geometry = AS_IT_IS
    batch_size: int = 8
    train_share: float = 1.0
    contamination: float = 0.0
    seed: int = 0

    def read(self) -> list[Category]:
        """Return the categories, each checked before any work begins."""
        names = self.categories or find_categories(self.root)
        if not names:
            raise DataError(f"no category in {self.root}: it holds no folder with train/good")
        categories = [_shortened(read_category(self.root, name), self.train_share) for name in names]
        return [contaminated(category, self.contamination, self.seed) for category in categories]

    def row_name(self, category: Category) -> str:
        """Return the name of the category's row and files: one line, whatever the folder is called."""
        return one_line(f"{self.name}_{category.name}")


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
