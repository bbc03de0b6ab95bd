"""Data sets of one's own: a folder of good parts, a table of files, or a class."""

import csv
import importlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_lib.datasets.images import decode_ahead
from anomaly_lib.datasets.likeness import Seen, look, pairs
from anomaly_lib.datasets.listing import entries, is_folder, pictures_below, pictures_in
from anomaly_lib.datasets.mvtec import (
    GOOD,
    Category,
    LabelledImage,
    by_stem,
    check_category_name,
    check_mask_size,
    with_masks,
)
from anomaly_lib.errors import AnomalyError, DataError, ParameterError, one_line, pass_on_lack_of_memory

log = logging.getLogger(__name__)

TEST_SHARE = 0.2
"""The share of good parts that are tested on unless another is asked for."""

# What a defect is called whose folder says nothing of its kind.
_DEFECT = "defect"

# What a table may call good parts.
_GOOD_LABELS = {"good", "normal", "ok", "0"}

# Of a kind of finding, so many are named.
_NAMED = 5

# More text than any table of pictures has.
_LONGEST = 2**26


def read_folder(
    good: Path,
    abnormal: Path | None = None,
    masks: Path | None = None,
    test_share: float = TEST_SHARE,
    seed: int = 0,
) -> Category:
    """Return a category of photographs: a folder of good parts, and if there are any one of defects.

    Parameters
    ----------
    good
        Its pictures, and those of the folders in it, are split into training and test images; see `split`.
    abnormal
        Its pictures show defects; those of a folder in it are called after the folder.
    masks
        The defects' masks, in the same folders as in `abnormal`: ``0.png`` or ``0_mask.png`` of ``0.jpg``.
    test_share, seed
        The share of the good pictures that are tested on, and what draws them.

    Raises
    ------
    DataError
        When a folder is missing or empty, or masks do not fit.
    """
    if not is_folder(good):
        raise DataError(f"no folder {good}: give one of pictures of good parts")
    files = pictures_below(good)
    if not files:
        raise DataError(f"there are no pictures in {good}: give a folder of photographs of good parts")
    if masks is not None and abnormal is None:
        raise ParameterError(f"masks {masks} have no effect without a folder of defects")
    train, test = split(files, test_share, seed)
    defects = [] if abnormal is None else _defects(abnormal, masks)
    images = [LabelledImage(path, GOOD, None) for path in test] + defects
    return _checked(Category(good.resolve().name, tuple(train), tuple(images)))


def read_table(file: Path, test_share: float = TEST_SHARE, seed: int = 0) -> Category:
    """Return the category in a table of comma-separated values, with one row for each picture.

    Its columns are ``path`` and ``label``: "good" (or normal, ok, 0), "unknown", or the name of a defect.
    ``mask`` and ``split`` ("train" or "test") may be there as well; without ``split``, the good pictures are
    split by `test_share` and `seed`, see `split`. Paths are from the folder of the table.

    Raises
    ------
    DataError
        When the table is none, or a row says what cannot be.
    """
    rows = _rows(file)
    good = [row["path"] for row in rows if row["label"] == GOOD]
    if "split" in rows[0]:
        parts = {row["path"]: row["split"] for row in rows}
        train = [path for path in good if parts[path] == "train"]
        test = [path for path in good if parts[path] == "test"]
    else:
        train, test = split(good, test_share, seed)
    if not train:
        raise DataError(f"{file} has no good pictures to train on: label some of them good")
    images = [LabelledImage(path, GOOD, None) for path in test]
    images += [
        LabelledImage(row["path"], row["label"], row.get("mask")) for row in rows if row["label"] != GOOD
    ]
    images.sort(key=lambda image: (image.defect, str(image.path)))
    return _checked(Category(file.stem, tuple(train), tuple(images)))


def read_own(name: str, path: Path) -> list[Category]:
    """Return the categories that ``package.module:Class`` yields when it is called with `path`.

    Raises
    ------
    DataError
        When there is no such class, or it yields anything else.
    """
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)(path)
        found = list(made)
    except AnomalyError:
        raise
    except Exception as error:  # it is anybody's code
        pass_on_lack_of_memory(error)
        raise DataError(one_line(f"the data set {name} cannot be used: {error!r}")) from error
    for category in found:
        if not isinstance(category, Category):
            raise DataError(
                f"the data set {name} yields a {type(category).__name__}: it has to yield Category"
            )
    names = [category.name for category in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"the data set {name} yields two categories called {twice[0]!r}: rename one")
    return [_checked(category) for category in found]


def _checked(category: Category) -> Category:
    check_category_name(category.name)
    for image in category.test:
        check_mask_size(image)
    return category


def split(files: Sequence[Path], test_share: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Return the pictures to train on and those to test on, drawn by `seed`.

    Pictures that show nearly the same stay on one side, or the test would be of what was learned. What cannot
    be read is left out, and a warning counts and names it. At least one picture is to train on.
    """
    if not 0 <= test_share < 1:
        raise ParameterError(f"test_share is {test_share}: give a share in [0, 1)")
    seen, left_out = [], []
    for one in decode_ahead(look, [(file, GOOD) for file in files], ahead=16):
        if isinstance(one, DataError):
            left_out.append(str(one))
        else:
            seen.append(one)
    _warn_of_unreadable(left_out, len(files))
    if not seen:
        raise DataError(f"none of the {len(files)} pictures of good parts can be read: {left_out[0]}")
    groups = _alike(seen)
    wanted = min(round(test_share * len(seen)), len(seen) - 1)
    test: set[Path] = set()
    for number in np.random.default_rng(seed).permutation(len(groups)):
        if len(test) + len(groups[number]) <= wanted:
            test.update(groups[number])
    paths = [one.path for one in seen]
    return [path for path in paths if path not in test], [path for path in paths if path in test]


def _alike(seen: Sequence[Seen]) -> list[list[Path]]:
    """Return the pictures in groups: in one are those that show nearly the same, directly or by others."""
    group_of = {one.path: [one.path] for one in seen}
    same, alike = pairs(seen)
    for one, other in same + alike:
        first, second = group_of[other.path], group_of[one.path]
        if first is not second:
            first += second
            for path in second:
                group_of[path] = first
    return [group for path, group in group_of.items() if group[0] == path]


def _warn_of_unreadable(left_out: Sequence[str], total: int) -> None:
    if left_out:
        log.warning("%d of %d pictures cannot be read and are left out", len(left_out), total)
        for reason in left_out[:_NAMED]:
            log.warning("left out: %s", reason)


def _defects(abnormal: Path, masks: Path | None) -> list[LabelledImage]:
    if not is_folder(abnormal):
        raise DataError(f"no folder {abnormal}: give one of pictures of defects")
    if masks is not None and not is_folder(masks):
        raise DataError(f"no folder {masks}: give one of masks of the defects in {abnormal}")
    folders = [path for path in entries(abnormal) if is_folder(path)]
    found = [] if folders else _labelled(abnormal, _DEFECT, masks)
    for folder in folders:
        inside = None if masks is None else masks / folder.name
        found += _labelled(folder, folder.name, inside)
    if not found:
        raise DataError(f"there are no pictures in {abnormal}: give a folder of pictures of defects")
    return found


def _labelled(folder: Path, defect: str, masks: Path | None) -> list[LabelledImage]:
    pictures, found = pictures_in(folder), [] if masks is None else pictures_in(masks)
    if masks is None or not found:
        return [LabelledImage(path, defect, None) for path in pictures]
    mask_of: dict[str, Path] = {}
    for mask in found:
        other = mask_of.setdefault(f"{mask.stem.removesuffix('_mask')}_mask", mask)
        if other is not mask:
            raise DataError(f"{other} and {mask} are masks of one picture: remove one")
    return with_masks(defect, by_stem(pictures), mask_of, folder, masks)


def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a table, with paths that are paths and labels that are one of ours."""
    try:
        if file.stat().st_size > _LONGEST:
            raise DataError(f"{file} is too large to be a table of pictures")
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the table {file}: {error}") from None
    if not rows:
        raise DataError(f"{file} has no rows: give one for each picture, with the columns path and label")
    names = set(rows[0])
    if missing := sorted({"path", "label"} - names):
        raise DataError(
            f"{file} has no column {missing[0]}: its columns are path, label, and if need be mask, split"
        )
    if odd := sorted(str(name) for name in names - {"path", "label", "mask", "split"}):
        raise DataError(f"{file} has a column {odd[0]}: its columns are path, label, mask and split")
    return [_row(file, number, row) for number, row in enumerate(rows, start=2)]


def _row(file: Path, line: int, row: Mapping[str, str | None]) -> dict[str, Any]:
    values = {name: (value or "").strip() for name, value in row.items()}
    if not values["path"] or not values["label"]:
        raise DataError(f"line {line} of {file} lacks its path or its label")
    label = GOOD if values["label"].lower() in _GOOD_LABELS else values["label"]
    found: dict[str, Any] = {"path": file.parent / values["path"], "label": label}
    if not found["path"].is_file():
        raise DataError(f"line {line} of {file}: there is no file {found['path']}")
    if values.get("mask"):
        found["mask"] = file.parent / values["mask"]
    if "split" in values:
        if values["split"] not in ("train", "test") or (values["split"] == "train" and label != GOOD):
            raise DataError(
                f"line {line} of {file}: split is {values['split']!r}: it is train or test, and only good "
                "pictures are trained on"
            )
        found["split"] = values["split"]
    return found
