"""One category dealt out to several sites."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from anomaly_lib.datasets import Category, LabelledImage, read_picture
from anomaly_lib.datasets.mvtec import GOOD
from anomaly_lib.errors import ParameterError

T = TypeVar("T")

# Pixels a side of what two pictures are compared by.
_THUMBNAIL = 8


def round_robin(category: Category, sites: int) -> list[Category]:
    """Deal out the images, one to each site in turn, in the order of their paths; as in the OpenFL tutorial.

    Raises
    ------
    ParameterError
        When there are more sites than images to learn from.

    Examples
    --------
    >>> from pathlib import Path
    >>> nuts = Category("nut", (Path("0.png"), Path("1.png"), Path("2.png")), ())
    >>> [[path.stem for path in shard.train] for shard in round_robin(nuts, 2)]
    [['0', '2'], ['1']]
    """
    _require_enough(category, sites)
    return [
        Category(category.name, category.train[site::sites], category.test[site::sites])
        for site in range(sites)
    ]


def skewed(category: Category, sites: int) -> list[Category]:
    """Deal out the images so that sites differ: for experiments.

    Each has good parts that look alike, by the brightness and colour of small copies, and defects of its own
    kinds; good test images are dealt out in turn.

    Raises
    ------
    ParameterError
        When there are more sites than images to learn from.
    """
    _require_enough(category, sites)
    defects = sorted({image.defect for image in category.test} - {GOOD})
    good = [image for image in category.test if image.defect == GOOD]
    shards = []
    for site, train in enumerate(_blocks(_by_appearance(category), sites)):
        own = set(defects[site::sites])
        test: list[LabelledImage] = [image for image in category.test if image.defect in own]
        shards.append(Category(category.name, tuple(train), (*test, *good[site::sites])))
    return shards


def _require_enough(category: Category, sites: int) -> None:
    if not 1 <= sites <= len(category.train):
        raise ParameterError(
            f"{sites} sites for the {len(category.train)} images of {category.name}: give each at least one"
        )


def _by_appearance(category: Category) -> list[Path]:
    """Return the images to learn from, along the direction in which they differ most."""
    small = [
        np.asarray(read_picture(path).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX), np.float64)
        for path in category.train
    ]
    rows = np.stack(small).reshape(len(small), -1)
    rows -= rows.mean(axis=0)
    along = np.linalg.svd(rows, full_matrices=False)[2][0]
    along *= np.sign(along.sum()) or 1.0  # dark to bright, on every machine
    return [category.train[i] for i in np.argsort(rows @ along, kind="stable")]


def _blocks(items: Sequence[T], number: int) -> list[Sequence[T]]:
    """Cut the items into so many blocks of lengths that differ by one at most."""
    edges = [len(items) * i // number for i in range(number + 1)]
    return [items[start:stop] for start, stop in pairwise(edges)]
