"""From the runs of a table to the table: means and standard errors over the categories, in per cent."""

import math
from collections.abc import Sequence

import pandas as pd

from anomaly_lib.datasets.mvtec import ALL_CATEGORIES
from anomaly_lib.tables.grids import PAPER, Setting, Table
from anomaly_lib.tables.run_file import KEY


def summary(
    runs: pd.DataFrame,
    table: Table,
    categories: Sequence[str],
    folds: Sequence[int],
    imagesize: int | None = None,
) -> pd.DataFrame:
    """Return the table: per setting the mean over categories of the means over folds, and its standard error.

    Rows are levels and their sum, or sigmas; columns are pairs of the setting and ``mean``, ``sem`` and
    ``paper``, or ``fpr`` and ``tpr``. Numbers are in per cent. ``paper`` is a mean over the 15 categories of
    MVTec AD: it is there when they are the `categories`, and no other `imagesize` than the network's is set.
    """
    rows = runs[runs["category"].isin(categories) & runs["fold"].isin([str(fold) for fold in folds])]
    paper = set(categories) == set(ALL_CATEGORIES) and imagesize is None
    paper = paper and not table.augment and not table.sigmas
    columns: dict[tuple[str, str], pd.Series] = {}
    for setting in table.settings:
        setting_rows = rows[(rows[KEY[:4]] == list(setting.key)).all(axis=1)]
        by_category = 100 * setting_rows.drop(columns=KEY).groupby(setting_rows["category"]).mean()
        if by_category.empty:
            continue
        columns |= _rates(setting, by_category, table) if table.sigmas else _aurocs(setting, by_category)
        if paper and setting.key[1:] == Setting("").key[1:] and setting.arch in PAPER:
            names = [*(f"level_{level}" for level in range(9)), "sum"]
            columns[setting.title, "paper"] = pd.Series(PAPER[setting.arch], index=names)
    result = pd.DataFrame(columns)
    return result.loc[sorted(result.index, key=_row_order)]


def formatted(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a summary as it is printed: mean +- standard error in one column, and the paper's beside it."""
    shown: dict[tuple[str, str], list[str]] = {}
    for column in numbers.columns:
        title, kind = tuple(column)
        if kind == "sem":
            continue
        spread = numbers[title, "sem"] if kind == "mean" else [math.nan] * len(numbers)
        pairs = zip(numbers[title, kind], spread, strict=True)
        shown[title, "mean ± SEM" if kind == "mean" else kind] = [_cell(*pair) for pair in pairs]
    return pd.DataFrame(shown, index=numbers.index)


def _aurocs(setting: Setting, by_category: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    columns = by_category.dropna(axis=1, how="all")  # of other architectures in the file
    return {(setting.title, "mean"): columns.mean(), (setting.title, "sem"): columns.sem()}


def _rates(setting: Setting, by_category: pd.DataFrame, table: Table) -> dict[tuple[str, str], pd.Series]:
    """Return false and true positive rates by sigma; the AUROC is in the first column, as in the paper."""
    mean = by_category.mean()
    rates = {
        kind: {f"sigma_{sigma}": mean[f"{kind}_{sigma}"] for sigma in table.sigmas} for kind in ("fpr", "tpr")
    }
    rates["fpr"]["AUROC"] = mean["sum"]
    rates["tpr"]["AUROC"] = math.nan
    return {(setting.title, kind): pd.Series(values) for kind, values in rates.items()}


def _row_order(row: str) -> tuple[bool, int]:
    """Order rows by their number; the sum and the AUROC, which have none, come last."""
    number = row.rpartition("_")[2]
    return (not number.isdecimal(), int(number) if number.isdecimal() else 0)


def _cell(value: float, spread: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.1f}" if math.isnan(spread) else f"{value:.1f} ± {spread:.1f}"
